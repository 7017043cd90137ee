from pathlib import Path

from misc.workspace import CURVE_HEADER, TrainingCurve

ROWS = [(1, 1, 0.5, 0.1), (2, 1, 0.123456789, 0.05), (3, 2, 1e-7, 0.0)]
TEXT = f"{CURVE_HEADER}\n1,1,0.5,0.1\n2,1,0.123457,0.05\n3,2,1e-07,0\n"


def write(path: Path, done: int, rows: list[tuple[int, int, float, float]]) -> None:
    with TrainingCurve(path).growing(done) as add:
        for row in rows:
            add(*row)


def test_a_row_is_there_as_soon_as_it_is_added(tmp_path: Path) -> None:
    path = tmp_path / "new" / "cam.curve.csv"
    with TrainingCurve(path).growing(0) as add:
        assert path.read_text() == f"{CURVE_HEADER}\n"
        add(*ROWS[0])
        assert path.read_text() == f"{CURVE_HEADER}\n1,1,0.5,0.1\n"
    write(path, 0, ROWS)
    assert path.read_text() == TEXT


def test_rows_after_the_checkpoint_come_again_and_half_a_row_is_none(tmp_path: Path) -> None:
    path = tmp_path / "cam.curve.csv"
    for torn in ("", "3,2", "3,2,1e-07,0", "3,2,1e-07,0\n", "\n\0\0,x\n"):
        path.write_text(TEXT.replace("3,2,1e-07,0\n", torn))
        write(path, 1, ROWS[1:])
        assert path.read_text() == TEXT


def test_a_training_from_the_start_has_no_rows_of_another(tmp_path: Path) -> None:
    path = tmp_path / "cam.curve.csv"
    path.write_text(TEXT)
    write(path, 0, ROWS[:1])
    assert path.read_text() == f"{CURVE_HEADER}\n1,1,0.5,0.1\n"
