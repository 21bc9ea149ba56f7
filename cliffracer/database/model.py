"""What a service stores: a `Model` per table, and the markers that its annotations carry.

    class User(Model):
        __tablename__ = "users"
        email: Annotated[str, Meta(pattern="@"), Unique()]
        team_id: Annotated[UUID, References("teams", on_delete="cascade")]
        __indexes__ = (Index("team_id", "created_at"),)

Nothing here needs PostgreSQL or psycopg: a file of declarations imports quickly.
"""

import re
import sys
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, dataclass_transform
from uuid import UUID

import msgspec

from cliffracer.database.ids import uuid7
from cliffracer.wire.limits import FIELDS, Limits, limits_of, translated

if sys.version_info >= (3, 14):
    import annotationlib

OnDelete = Literal["restrict", "cascade", "set null", "no action"]


class Unique:
    """No two rows agree on the field, or, in ``__indexes__``, on the named fields together.

    ``where`` is a condition in SQL: only rows that meet it must differ.
    """

    __slots__ = ("fields", "where")

    def __init__(self, *fields: str, where: str | None = None) -> None:
        self.fields = fields
        self.where = where

    def __repr__(self) -> str:
        return f"Unique({', '.join(map(repr, self.fields))})"


class Index:
    """Rows are found fast by the field, or, in ``__indexes__``, by the named fields in that order.

    ``method`` is one of PostgreSQL's kinds of index; ``where`` a condition in SQL: only rows that meet it are in it.
    """

    __slots__ = ("fields", "method", "where")

    def __init__(self, *fields: str, method: Literal["btree", "hash", "gin", "gist", "brin"] = "btree", where: str | None = None) -> None:
        self.fields = fields
        self.method = method
        self.where = where

    def __repr__(self) -> str:
        return f"Index({', '.join(map(repr, self.fields))})"


class References:
    """The field holds the `id` of a row of another model, given as its class, or as its table: ``"teams"`` or ``"teams.id"``.

    ``on_delete`` says what becomes of this row when that one goes; an index on the field comes with it.
    """

    __slots__ = ("on_delete", "target")

    def __init__(self, target: "type[Model] | str", *, on_delete: OnDelete = "restrict") -> None:
        self.target = target.removesuffix(".id") if isinstance(target, str) else target
        self.on_delete = on_delete

    @property
    def tablename(self) -> str:
        """The table that is pointed to."""
        return self.target if isinstance(self.target, str) else tablename_of(self.target)

    def __repr__(self) -> str:
        return f"References({self.tablename!r})"


class Search:
    """The text field takes part in ``find(search=...)``; one `tsvector` index covers all such fields of a model.

    ``weight`` from A (counts most) to D ranks the fields; ``language`` is a text search configuration of PostgreSQL.
    """

    __slots__ = ("language", "weight")

    def __init__(self, *, weight: Literal["A", "B", "C", "D"] = "D", language: str = "english") -> None:
        self.weight = weight
        self.language = language

    def __repr__(self) -> str:
        return f"Search(weight={self.weight!r}, language={self.language!r})"


class Shard:
    """Which of several databases keeps a row: the one that the value of a field chooses.

    ``by`` makes a whole number of the value, the same in every process; without it UUIDs and numbers are taken as they
    are, and text by its CRC-32. Rows never move by themselves: with another number of databases they are sought elsewhere.
    """

    __slots__ = ("by", "field")

    def __init__(self, field: str = "id", *, by: Callable[[Any], int] | None = None) -> None:
        self.field = field
        self.by = by or number_of

    def __repr__(self) -> str:
        return f"Shard({self.field!r})"

    def place(self, value: Any, count: int) -> int:
        """Return which of ``count`` databases keeps rows with this value."""
        return self.by(value) % count


def number_of(value: Any) -> int:
    """Return a whole number for a value, the same in every process and language."""
    if isinstance(value, UUID):
        return value.int & 0xFFFFFFFF  # random bits; the first ones are a time
    return value if isinstance(value, int) else zlib.crc32(str(value).encode())


def now() -> datetime:
    """Return the present moment, in UTC."""
    return datetime.now(UTC)


def _annotations(namespace: dict[str, Any]) -> Mapping[str, Any]:
    """Return the annotations of a class that is being made; since Python 3.14 they are computed when first asked for (PEP 649)."""
    given: Mapping[str, Any] | None = namespace.get("__annotations__")
    if given is None and sys.version_info >= (3, 14):
        annotate = annotationlib.get_annotate_from_class_namespace(namespace)
        given = None if annotate is None else annotationlib.call_annotate_function(annotate, annotationlib.Format.FORWARDREF)
    return given or {}


def _translated(annotation: Any, namespace: dict[str, Any]) -> Any:
    """Return an annotation with our own limits on decimals; one in quotes stays if it has none, or if a name in it is defined later."""
    if not isinstance(annotation, str):
        return translated(annotation)
    try:
        meant = eval(annotation, vars(sys.modules[namespace["__module__"]]), namespace)  # noqa: S307 - as msgspec does, of the same source
    except (NameError, AttributeError, TypeError, SyntaxError, KeyError):
        return annotation
    found = translated(meant)
    return annotation if found is meant else found


class ModelMeta(msgspec.StructMeta):
    """Makes every Model keyword-only, which msgspec would not pass on to subclasses."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        """Make the Struct."""
        options.setdefault("kw_only", True)
        fields = {field: _translated(annotation, namespace) for field, annotation in _annotations(namespace).items()}
        limits = {field: found for base in reversed(bases) for field, found in getattr(base, FIELDS, {}).items() if field not in fields}
        limits |= limits_of(fields.items())
        if limits:
            namespace |= {"__annotations__": fields, FIELDS: limits}
        return super().__new__(cls, name, bases, namespace, **options)


Moment = Annotated[datetime, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""A time that we have set, so it has a zone: schemas may promise ``date-time``."""


@dataclass_transform(kw_only_default=True, field_specifiers=(msgspec.field,))
class Model(msgspec.Struct, metaclass=ModelMeta):
    """A row: keyword-only, with a key and two timestamps of its own.

    Two more fields have a meaning when a model declares them: ``version: int`` (a change made on an older version is
    a `Conflict`) and ``deleted_at: datetime | None`` (a deleted row stays, and is no longer found).
    """

    __tablename__: ClassVar[str]
    """The table; the class's name in snake_case when it is not given."""
    __indexes__: ClassVar[Unique | Index | tuple[Unique | Index, ...]] = ()
    """Keys and indexes over several fields."""

    __limits__: ClassVar[Mapping[str, tuple[Limits, ...]]] = {}
    """Of decimals: read off the annotations."""

    __shard__: ClassVar[Shard | None] = None
    """With several databases (settings: database_urls), what spreads the rows over them; None: all in the first."""

    id: UUID = msgspec.field(default_factory=uuid7)
    created_at: Moment = msgspec.field(default_factory=now)
    updated_at: Moment = msgspec.field(default_factory=now)


def tablename_of(model: type[Model]) -> str:
    """Return the name of a model's table."""
    given = model.__dict__.get("__tablename__")
    return str(given) if given else re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", model.__name__).lower()
