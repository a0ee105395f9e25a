"""What a manifest is to its repository, and why, in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cleaner.core.graph import Graph, Kind
from cleaner.core.manifest import Manifest
from cleaner.core.reference import Digest
from cleaner.views import words

# The number of manifests or tags that are named before the rest is only counted.
_NAMED = 3


def class_sentence(manifest: Manifest, graph: Graph) -> str:
    """Return which class ``manifest`` has, and the tags, indexes or subjects that make it so."""
    indexes, covering = graph.parents.get(manifest.digest, ()), graph.covering.get(manifest.digest, ())
    listed = f"; {names(indexes, graph)} {plural(indexes, 'lists', 'list')} it" if indexes else ""
    match graph.kind(manifest):
        case Kind.TAGGED_IMAGE:
            tags = graph.ordinary_tags(manifest)
            has = f"it has the {plural(tags, 'tag')} {words.listed(tags)}" if tags else "it has tags"
            also = f"; it is also {_referrer(manifest, graph)}" if manifest.digest in graph.subjects else ""
            return f"It is a tagged image: {has}{listed}{also}."
        case Kind.UNTAGGED_IMAGE:
            return (
                "It is an untagged image: it has no tag, no index lists it, and it names no subject.  Its kind of"
                f" content is {manifest.links.content!a}."
            )
        case Kind.CHILD if covering:
            redundant = f"{names(covering, graph)} {plural(covering, 'lists', 'list')} all of its children as well"
            return f"It is a child: a redundant index, since {redundant}{listed}."
        case Kind.CHILD:
            return f"It is a child: {names(indexes, graph)} {plural(indexes, 'lists', 'list')} it."
        case Kind.REFERRER:
            return f"It is {_referrer(manifest, graph)}."
        case Kind.ORPHAN:
            subjects = graph.named[manifest.digest]
            its = plural(subjects, "its subject is", "its subjects are")
            return f"It is an orphan: {its} {_absent(subjects)}{listed}."


def names(digests: Iterable[Digest], graph: Graph) -> str:
    """Return manifests by the beginning of their digests, with their ordinary tags."""
    return some([_name(digest, graph) for digest in dict.fromkeys(digests)])


def some(items: Sequence[str]) -> str:
    """Return the first of ``items`` and the number of the others."""
    rest = len(items) - _NAMED
    return words.listed([*items[:_NAMED], f"{rest} more"] if rest > 0 else items)


def plural(items: Sequence[str], one: str, several: str = "") -> str:
    """Return the word for so many ``items``."""
    return one if len(items) == 1 else several or f"{one}s"


def _name(digest: Digest, graph: Graph) -> str:
    tags = graph.ordinary_tags(graph.listing.manifests[digest])
    return f"{words.short(digest)} ({some(tags)})" if tags else words.short(digest)


def _referrer(manifest: Manifest, graph: Graph) -> str:
    """Return of what ``manifest`` is a referrer, and by what."""
    present = graph.subjects[manifest.digest]
    named_by = {tag: graph.subject_of(manifest, tag) for tag in manifest.tags}
    tags = [words.short_tag(tag) for tag, subject in named_by.items() if subject in present]
    by = [f"the {plural(tags, 'tag')} {words.listed(tags)}"] if tags else []
    if manifest.links.subject in present:
        by.append("the subject in its document")
    if not {*present} <= {*named_by.values(), manifest.links.subject}:
        by.append("the subjects of what it lists")
    absent = [subject for subject in graph.named[manifest.digest] if subject not in present]
    also = f"; it also names {_absent(absent)}" if absent else ""
    return f"a referrer of {names(present, graph)}, by {words.listed(by)}{also}"


def _absent(subjects: Sequence[Digest]) -> str:
    """Return the digests of subjects that are not in the repository."""
    missing = "which is not" if len(subjects) == 1 else "none of which is"
    return f"{some([words.short(subject) for subject in subjects])}, {missing} in the repository"
