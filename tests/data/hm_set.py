"""A small set in the exact layout of the Kaggle competition, written for tests."""

import csv
import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FIRST_DATE = datetime.date(2018, 9, 20)
CUT = "2018-12-20"
DAYS, CUSTOMERS, ARTICLES, WIDTH = 120, 30, 50, 8
TRANSACTION_COLUMNS = ("t_dat", "customer_id", "article_id", "price", "sales_channel_id")
ARTICLES_HEADER = (
    "article_id,product_code,prod_name,product_type_no,product_type_name,product_group_name,"
    "graphical_appearance_no,graphical_appearance_name,colour_group_code,colour_group_name,"
    "perceived_colour_value_id,perceived_colour_value_name,perceived_colour_master_id,"
    "perceived_colour_master_name,department_no,department_name,index_code,index_name,"
    "index_group_no,index_group_name,section_no,section_name,garment_group_no,garment_group_name,"
    "detail_desc"
)
ARTICLE_COLUMNS = ARTICLES_HEADER.split(",")


def article_id(article: int) -> str:
    return f"0{108775015 + 7 * article:09d}"


def customer_id(customer: int) -> str:
    return f"{customer * 2654435761 % 2**32:064x}"


def date(day: int) -> str:
    return str(FIRST_DATE + datetime.timedelta(days=day))


def purchases(seed: int = 0, *, days: int = DAYS) -> list[tuple[str, str, str]]:
    """(date, customer, article) rows with repeats, popular articles, and late new articles."""
    rng = np.random.default_rng(seed)
    rows = []
    for day in range(days):
        for _ in range(rng.integers(4, 12)):
            article = min(int(rng.exponential(8)) + day // 6, ARTICLES - 1)
            row = (date(day), customer_id(int(rng.integers(CUSTOMERS))), article_id(article))
            rows += [row] * int(rng.integers(1, 3))
    return rows


def write_transactions(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    with (folder / "transactions_train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(TRANSACTION_COLUMNS)
        writer.writerows((*row, 0.0508305084745763, 2) for row in rows)


def write_articles(folder: Path) -> None:
    with (folder / "articles.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(ARTICLE_COLUMNS)
        for article in range(ARTICLES):
            row = {name: str(article % (2 + at)) for at, name in enumerate(ARTICLE_COLUMNS)}
            row |= {"article_id": article_id(article), "product_group_name": "Socks & Tights"}
            row["detail_desc"] = 'Trainers in "soft" jersey,\nwith a seam.' if article % 3 else ""
            writer.writerow(row.values())


def write_features(folder: Path, articles: np.ndarray | None = None) -> np.ndarray:
    """uint8 rows of the articles given, in that order; returns the scaled features."""
    articles = np.arange(ARTICLES) if articles is None else articles
    rng = np.random.default_rng(1)
    rows_ND = rng.integers(0, 256, (ARTICLES, WIDTH), dtype=np.uint8)
    scale_N = rng.uniform(0.01, 0.02, ARTICLES).astype(np.float32)
    np.savez_compressed(
        folder / "image_features_u8.npz",
        article_id=np.array([article_id(int(article)) for article in articles]),
        rows=rows_ND[articles],
        scale=scale_N[articles],
    )
    return rows_ND * scale_N[:, None]


def write_impressions(folder: Path, rows: list[tuple[str, str, str]], **columns: pa.Array) -> None:
    """Each distinct purchase with two articles at random, in shuffled order; `columns` replace."""
    rng = np.random.default_rng(2)
    shown = []
    for request, (day, customer, article) in enumerate(sorted(set(rows))):
        shown.append((request, customer, day, article, 1))
        shown += [
            (request, customer, day, article_id(int(rng.integers(ARTICLES))), 0) for _ in range(2)
        ]
    shown = [shown[at] for at in rng.permutation(len(shown))]
    names = ("request_id", "customer_id", "t_dat", "article_id", "click")
    table = {name: pa.array([row[at] for row in shown]) for at, name in enumerate(names)}
    pq.write_table(pa.table(table | columns), folder / "impressions.parquet")


def write_set(folder: Path, *, impressions: bool = False) -> Path:
    write_articles(folder)
    write_transactions(folder, purchases())
    write_features(folder)
    if impressions:
        write_impressions(folder, purchases())
    return folder
