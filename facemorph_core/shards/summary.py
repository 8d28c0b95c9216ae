"""What each site has: counts, people and attribute shares, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facemorph_core.shards.shard import Shard

__all__ = ["SiteSummary", "draw_summary", "summarise", "summary_table"]


@dataclass(frozen=True, slots=True)
class SiteSummary:
    """One site's shard in numbers."""

    name: str
    photos: int
    people: int
    train: int
    val: int
    attributes: dict[str, float]
    """Attribute -> share of its photos that have it; photos where it is unknown do not count."""


def summarise(shards: Sequence[Shard]) -> list[SiteSummary]:
    """One summary per shard, named by its directory."""
    return [
        SiteSummary(
            name=shard.path.name,
            photos=len(shard),
            people=len(set(shard.people)),
            train=len(shard.rows("train")),
            val=len(shard.rows("val")),
            attributes={
                name: float((column == 1).sum() / max(1, (column != 0).sum()))
                for name, column in shard.attributes.items()
            },
        )
        for shard in shards
    ]


def summary_table(
    summaries: Sequence[SiteSummary], *, attributes: Sequence[str] = ()
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of text; ``attributes`` names the shares that get a column."""
    header = ["site", "photos", "people", "train", "val", *attributes]
    rows = [
        [
            summary.name,
            *(str(n) for n in (summary.photos, summary.people, summary.train, summary.val)),
            *(f"{summary.attributes.get(name, 0):.0%}" for name in attributes),
        ]
        for summary in summaries
    ]
    return header, rows


# --- the picture -----------------------------------------------------------------------------

_INK, _GREY, _PAPER = (34, 38, 46), (120, 126, 138), (255, 255, 255)
_TRAIN, _VAL, _SHARE, _TRACK = (46, 104, 168), (150, 190, 224), (214, 132, 58), (233, 236, 241)
_FACE, _GAP, _ROW, _BAR = 56, 6, 76, 220


def draw_summary(
    shards: Sequence[Shard],
    *,
    faces_per_site: int = 6,
    attribute: str | None = None,
    max_sites: int = 24,
) -> Image.Image:
    """One line per site: some of its faces, bars of its photos, its share of ``attribute``.

    The faces are evenly spaced over the people of a site; ``faces_per_site=0`` leaves them out.
    Beyond ``max_sites`` the rest is told as a number.
    """
    shown, summaries = list(shards)[:max_sites], summarise(shards)
    faces_width = faces_per_site * (_FACE + _GAP)
    width = 150 + faces_width + _BAR + (190 if attribute else 0) + 90
    picture = Image.new("RGB", (width, 44 + _ROW * len(shown) + 30), _PAPER)
    draw = ImageDraw.Draw(picture)
    total = f"{len(summaries)} sites, {sum(s.photos for s in summaries)} photos"
    draw.text((16, 12), total, fill=_INK, font=_font(17))
    largest = max((summary.photos for summary in summaries), default=1) or 1
    for line, (shard, summary) in enumerate(zip(shown, summaries, strict=False)):
        top = 44 + line * _ROW
        _draw_words(draw, summary, top)
        _paste_faces(picture, shard, top, faces_per_site)
        _draw_photos(draw, summary, left=150 + faces_width, top=top, largest=largest)
        if attribute is not None:
            share = summary.attributes.get(attribute, 0.0)
            _draw_share(draw, attribute, share, left=150 + faces_width + _BAR + 70, top=top)
    if len(shards) > len(shown):
        rest = f"and {len(shards) - len(shown)} more sites"
        draw.text((16, picture.height - 26), rest, fill=_GREY, font=_font(13))
    return picture


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _draw_words(draw: ImageDraw.ImageDraw, summary: SiteSummary, top: int) -> None:
    draw.text((16, top + 10), summary.name, fill=_INK, font=_font(15))
    draw.text((16, top + 32), f"{summary.people} people", fill=_GREY, font=_font(13))


def _paste_faces(picture: Image.Image, shard: Shard, top: int, count: int) -> None:
    firsts = list({person: row for row, person in reversed(list(enumerate(shard.people)))}.values())
    firsts.reverse()
    picked = np.unique(np.linspace(0, len(firsts) - 1, min(count, len(firsts))).round())
    rows = [firsts[int(index)] for index in picked]
    for column, pixels in enumerate(shard.images(rows)):
        face = Image.fromarray(pixels).resize((_FACE, _FACE), Image.Resampling.LANCZOS)
        picture.paste(face, (150 + column * (_FACE + _GAP), top + 4))


def _draw_photos(
    draw: ImageDraw.ImageDraw, summary: SiteSummary, *, left: int, top: int, largest: int
) -> None:
    train, val = (round(_BAR * n / largest) for n in (summary.train, summary.val))
    draw.rectangle((left, top + 14, left + train, top + 34), fill=_TRAIN)
    draw.rectangle((left + train, top + 14, left + train + val, top + 34), fill=_VAL)
    words = f"{summary.train} train, {summary.val} val"
    draw.text((left, top + 40), words, fill=_GREY, font=_font(13))


def _draw_share(
    draw: ImageDraw.ImageDraw, attribute: str, share: float, *, left: int, top: int
) -> None:
    draw.rectangle((left, top + 14, left + 120, top + 34), fill=_TRACK)
    draw.rectangle((left, top + 14, left + round(120 * share), top + 34), fill=_SHARE)
    draw.text((left, top + 40), f"{attribute} {share:.0%}", fill=_GREY, font=_font(13))
