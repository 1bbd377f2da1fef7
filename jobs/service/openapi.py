"""What the OpenAPI page says of the paths of a service."""

from typing import Any

DESCRIPTION = "Classifies uploaded videos. Answers are those of `python -m pipeline classify --json`."

_CHOICE: dict[str, Any] = {
    "type": "object",
    "required": ["class", "probability"],
    "properties": {"class": {"type": "string"}, "probability": {"type": "number", "minimum": 0, "maximum": 1}},
}
_CHOICES = {"type": "array", "items": _CHOICE}
_SPAN = {"start": {"type": "number", "description": "seconds"}, "end": {"type": "number", "description": "seconds"}}
_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "what is wrong, in one sentence"}},
}
RESULT: dict[str, Any] = {
    "type": "object",
    "required": ["video", "top", "decoder"],
    "additionalProperties": False,
    "properties": {
        "video": {"type": "string", "description": "option `name`, else the form's file name"},
        "top": _CHOICES,
        "labels": {**_CHOICES, "description": "with `threshold`: the classes at or above it"},
        "stretches": {
            "type": "array",
            "items": {**_CHOICE, "properties": {**_CHOICE["properties"], **_SPAN}},
            "description": "with `timeline`: stretches of seconds with the same best class",
        },
        "timeline": {
            "type": "array",
            "items": {"type": "object", "properties": {**_SPAN, "top": _CHOICES, "labels": _CHOICES}},
        },
        "decoder": {"type": "string"},
        "other_streams": {"type": "integer"},
    },
}


def _option(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_BINARY = {"type": "string", "format": "binary"}
CLASSIFY: dict[str, Any] = {
    "parameters": [
        _option("top", {"type": "integer", "minimum": 1, "default": 5}, "number of classes"),
        _option("timeline", {"type": "boolean", "default": False}, "classify a clip around each second"),
        _option("threshold", {"type": "number", "minimum": 0, "maximum": 1}, "for several labels a video"),
        _option("name", {"type": "string"}, "name of the video in the answer"),
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": _BINARY},
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["video"], "properties": {"video": _BINARY}}
            },
        },
    },
    "responses": {
        "200": _answer("the classes", RESULT),
        "400": _answer("no upload, a malformed form, or a wrong option", _ERROR),
        "401": _answer("the token is missing or wrong", _ERROR),
        "408": _answer("the upload is too slow", _ERROR),
        "413": _answer("the video is too large", _ERROR),
        "422": _answer("the video cannot be decoded, or not within the limits; `reason` says why", _ERROR),
        "429": _answer("the queue is full; header Retry-After has seconds", _ERROR),
        "503": _answer("no replica answers; header Retry-After has seconds", _ERROR),
        "504": _answer("no answer in time", _ERROR),
    },
}
LABELS: dict[str, Any] = {
    "responses": {
        "200": _answer(
            "the classes in label order, the task, and which network it is",
            {
                "type": "object",
                "required": ["labels", "task", "network"],
                "properties": {
                    "labels": {"type": "array", "items": {"type": "string"}},
                    "task": {"enum": ["single_label", "multi_label"]},
                    "network": {"type": "object"},
                },
            },
        )
    }
}
