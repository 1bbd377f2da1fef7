"""Text on frames without a font library: 5 x 7 letters of dots, in any whole multiple, for annotated videos."""

import unicodedata

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 8, 6  # of a letter with the space around it, in dots
_FIRST = 32
# Five columns a letter, from left to right, bit 0 on top; the letters of ASCII from the space to the tilde.
_COLUMNS = bytes.fromhex(
    "0000000000 00005f0000 0007000700 147f147f14 242a7f2a12 2313086462 3649552250 0005030000 001c224100 0041221c00 "
    "14083e0814 08083e0808 0050300000 0808080808 0060600000 2010080402 3e5149453e 00427f4000 4261514946 2141454b31 "
    "1814127f10 2745454539 3c4a494930 0171090503 3649494936 064949291e 0036360000 0056360000 0814224100 1414141414 "
    "0041221408 0201510906 324979413e 7e1111117e 7f49494936 3e41414122 7f4141221c 7f49494941 7f09090901 3e4149497a "
    "7f0808087f 00417f4100 2040413f01 7f08142241 7f40404040 7f020c027f 7f0408107f 3e4141413e 7f09090906 3e4151215e "
    "7f09192946 4649494931 01017f0101 3f4040403f 1f2040201f 3f4038403f 6314081463 0708700807 6151494543 007f414100 "
    "0204081020 0041417f00 0402010204 4040404040 0001020400 2054545478 7f48444438 3844444420 384444487f 3854545418 "
    "087e090102 0c5252523e 7f08040478 00447d4000 2040443d00 7f10284400 00417f4000 7c04180478 7c08040478 3844444438 "
    "7c14141408 081414187c 7c08040408 4854545420 043f444020 3c4040207c 1c2040201c 3c4030403c 4428102844 0c5050503c "
    "4464544c44 0008364100 00007f0000 0041360800 1008081008"
)
_LETTERS = np.unpackbits(np.frombuffer(_COLUMNS, np.uint8).reshape(-1, 5, 1), axis=2, bitorder="little")


def to_ascii(text: str) -> str:
    """The text in the letters there are: accents are left out, and what has no like among them is a question mark."""
    plain = unicodedata.normalize("NFKD", text)
    kept = (letter for letter in plain if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in kept)


def text_dots(text: str, scale: int = 1) -> NDArray[np.bool_]:
    """Where a line of text has ink: bool (8 * scale, 6 * letters * scale)."""
    letters = np.frombuffer(to_ascii(text).encode("ascii"), np.uint8) - _FIRST
    dots = np.zeros((HEIGHT, WIDTH * len(letters)), dtype=bool)
    for place, letter in enumerate(letters):
        dots[:, WIDTH * place : WIDTH * place + 5] = _LETTERS[letter].T
    return dots.repeat(scale, axis=0).repeat(scale, axis=1)


def draw_text(
    frame: NDArray[np.uint8], text: str, top: int, left: int, scale: int, color: tuple[int, int, int]
) -> None:
    """Writes a line of text onto a frame, in place; what does not fit is cut off.

    Args:
        frame: uint8 (H, W, 3).
        text: any; see `to_ascii`.
        top: row of the letters' upper edge.
        left: column of the first letter's left edge.
        scale: pixels a dot.
        color: of the ink, R, G, B.
    """
    place = frame[top : top + HEIGHT * scale, left:]
    dots = text_dots(text, scale)[: place.shape[0], : place.shape[1]]
    place[: dots.shape[0], : dots.shape[1]][dots] = color
