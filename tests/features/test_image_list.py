"""Folders and lists give every image once, under an ID of its own."""

import os

import pyarrow as pa
import pyarrow.parquet
import pytest

from dicm_jax.errors import DataError
from dicm_jax.features.image_list import list_images


def touch(folder, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def fails(source, match: str) -> None:
    with pytest.raises(DataError, match=match):
        list_images(source)


def test_folder_is_searched_to_the_bottom(tmp_path):
    touch(tmp_path, "b/2.JPG", "a/c/1.png", "0.webp", "a/notes.txt", ".hidden.jpg")
    images = list_images(tmp_path)
    assert images.paths == ["0.webp", "a/c/1.png", "b/2.JPG"]
    assert images.ids == ["0", "1", "2"]
    assert images.other_files == 2


def test_lists_keep_ids_as_they_are_written(tmp_path):
    (tmp_path / "list.csv").write_text("path,id,more\nx/1.jpg,0012,7\n/y/2.jpg,n/a,8\n")
    images = list_images(tmp_path / "list.csv")
    assert images.ids == ["0012", "n/a"]
    assert images.root / images.paths[0] == tmp_path / "x" / "1.jpg"
    assert str(images.root / images.paths[1]) == "/y/2.jpg"
    table = pa.table({"id": [12, 13], "path": ["x/1.jpg", "/y/2.jpg"]})
    pyarrow.parquet.write_table(table, tmp_path / "list.parquet")
    assert list_images(tmp_path / "list.parquet").ids == ["12", "13"]


def test_fingerprint_is_of_ids_and_paths(tmp_path):
    touch(tmp_path, "a/1.png", "a/2.png")
    before = list_images(tmp_path).crc
    assert list_images(tmp_path).crc == before
    (tmp_path / "a" / "2.png").rename(tmp_path / "2.png")
    assert list_images(tmp_path).crc != before


def test_two_images_of_one_id(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.jpg", "b/2.jpg")
    fails(tmp_path, r"1 IDs are those of several images, the first is '1': a/1.png and b/1.jpg; re")


def test_file_name_that_is_no_text(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.jpg")).touch()
    fails(tmp_path, r"file name '\\udcff.jpg' has bytes that are no text; rename it")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("id,file\n1,a\n", r"no column 'path', found \['id', 'file'\]; it must have id and path"),
        ("id,path\n1,\n2,a.jpg\n", "column 'path' is empty in 1 of 2 lines; fill or drop them"),
        ("id,path\n1,a,b\n", "list.csv: cannot be read as .csv .*; make it again"),
        ("id,path\n", "no images, but 0 other files"),
    ],
)
def test_unusable_lists(text, match, tmp_path):
    (tmp_path / "list.csv").write_text(text)
    fails(tmp_path / "list.csv", match)


def test_unusable_sources(tmp_path):
    fails(tmp_path / "photos", "photos: no such file or folder; give a folder of images, or a .csv")
    touch(tmp_path, "photos.zip", "texts/1.txt")
    fails(tmp_path / "photos.zip", "photos.zip: a file; give a folder")
    fails(tmp_path / "texts", "no images, but 1 other files; files that end in .jpg")
    table = pa.table({"id": [0.5], "path": ["a.jpg"]})
    pyarrow.parquet.write_table(table, tmp_path / "list.parquet")
    fails(tmp_path / "list.parquet", "column 'id' is double; expected text or integers")
