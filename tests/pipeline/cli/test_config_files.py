"""Configuration files that are none: one sentence with the file's name, and the line where there is one."""

import pytest

from pipeline.__main__ import main
from pipeline.cli.config_files import refuse_bad_configs


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must hold options such as `model:` and `data:`, and holds nothing"),
        ("- a\n- b\n", "and holds a list"),
        ("hello", "and holds a str"),
        ("3", "and holds a int"),
        ("1: 2\n", "and holds keys that are no names"),
        ("a: [1\nb: }", "not a YAML file: line 2, column 2"),
        ("a: *x", "not a YAML file: line 1, column 4: found undefined alias"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor for the tag"),
        (b"a: \x00", "not a YAML file: unacceptable character #x0000"),
        (bytes(range(128, 256)), "not a YAML file: 'utf-8' codec can't decode"),
    ],
)
def test_what_is_no_mapping_is_one_sentence(tmp_path, capsys, content, message):
    path = tmp_path / "wrong.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for arguments in (["fit", "--config", str(path)], ["show", f"--config={path}", "--out", str(tmp_path / "o.html")]):
        assert main(arguments) == 2
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith(f"error: config={path}: ")
        assert message in said[-1]
        assert not any("Traceback" in line for line in said)


def test_what_is_no_file_is_named(tmp_path):
    (tmp_path / "link.yaml").symlink_to("/nowhere")
    for path, message in [
        (tmp_path, "is a folder; name a YAML file"),
        (tmp_path / "absent.yaml", "there is no such file"),
        (tmp_path / "link.yaml", "is a link to '/nowhere', which is not there"),
    ]:
        with pytest.raises(ValueError, match=message):
            refuse_bad_configs(["fit", "--config", str(path)])


def test_what_is_whole_or_given_as_text_passes(tmp_path):
    (tmp_path / "fine.yaml").write_text("model: {class_path: C3D}\n")
    refuse_bad_configs(["fit", "--config", str(tmp_path / "fine.yaml"), "--config", "{model: C3D}", "-c", "a: 1\nb: 2"])
