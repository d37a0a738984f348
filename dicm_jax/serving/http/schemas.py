"""Requests and answers of the service, as OpenAPI shows them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

MOST_CANDIDATES, MOST_BEHAVIORS, MOST_ITEMS, MOST_BEST = 10_000, 10_000, 256, 10_000
_LONGEST_NAME = 256

Name = Annotated[StrictStr, Field(min_length=1, max_length=_LONGEST_NAME)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
FieldValue = StrictInt | Annotated[StrictStr, Field(max_length=_LONGEST_NAME)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class UserBody(_Strict):
    """Who is asked for: a user of the servable's examples by `id`, or fields and behaviors."""

    id: Name | None = Field(None, description="of a user in `/v1/users`")
    fields: dict[Name, FieldValue] = Field(
        {}, description="values of user fields: keys, or texts where they are known", max_length=256
    )
    behaviors: Annotated[list[Name], Field(max_length=MOST_BEHAVIORS)] = Field(
        [], description="items clicked, oldest first; unknown ones are left out and counted"
    )


class RankBody(_Strict):
    """Candidates to rank."""

    user: UserBody = Field(description="who is asked for")
    candidates: Annotated[list[Name], Field(min_length=1, max_length=MOST_CANDIDATES)] = Field(
        description="items to rank"
    )
    context: dict[Name, Annotated[list[FieldValue], Field(max_length=MOST_CANDIDATES)]] = Field(
        {}, description="values of context fields, one a candidate; default: the newest known"
    )
    model: Literal["dicm", "baseline"] = Field("dicm", description="with images, or without")
    images: StrictBool = Field(True, description="false: as if no item had a photo")
    explain: StrictBool = Field(False, description="add what each behavior counts")


class RankAnswer(BaseModel):
    """Scores of candidates."""

    version: str = Field(description="of the servable that answered")
    scores: list[float] = Field(description="click probabilities, in the order of candidates")
    ranking: list[int] = Field(description="numbers of candidates, best first")
    behaviors: list[str] = Field(description="behaviors that were seen, oldest first")
    unknown_behaviors: int = Field(description="behaviors left out, as no such item is known")
    attention: dict[str, list[list[float]]] | None = Field(
        None, description="by content and query: a row a candidate, a weight a behavior"
    )


class PrerankBody(_Strict):
    """The best items of all, by inner product."""

    user: UserBody = Field(description="who is asked for")
    count: Annotated[StrictInt, Field(ge=1, le=MOST_BEST)] = Field(
        100, description="items wanted; fewer come where there are fewer"
    )


class PrerankAnswer(BaseModel):
    """The best items."""

    version: str = Field(description="of the servable that answered")
    items: list[str] = Field(description="best first")
    scores: list[float] = Field(description="inner products")


class ItemBody(_Strict):
    """A new item."""

    name: Name = Field(description="what requests will call it")
    fields: dict[Name, FieldValue] = Field(
        {}, description="values of item fields; what is not known counts as nothing", max_length=256
    )
    features: dict[Name, Annotated[list[Number], Field(max_length=65536)]] = Field(
        {}, description="feature rows by content, as their encoder makes them", max_length=16
    )
    photo: Annotated[StrictStr, Field(max_length=16 * 2**20)] | None = Field(
        None, description="a JPEG or PNG in base64, where the service has an image encoder"
    )
    context: dict[Name, FieldValue] = Field({}, description="usual context", max_length=256)


class ItemsBody(_Strict):
    """New items, all of which are added, or none."""

    items: Annotated[list[ItemBody], Field(min_length=1, max_length=MOST_ITEMS)]


class ItemsAnswer(BaseModel):
    """What there is now."""

    version: str = Field(description="of the servable that answers")
    added: int = Field(description="items added or replaced by this request")
    items: int = Field(description="items that can be ranked")


class Problem(BaseModel):
    """Why a request was not answered."""

    error: str = Field(description="what was asked, what was found, what to do")
