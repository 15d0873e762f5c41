"""Runs to report, and what a reader sees on the page."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from playfield.evaluation.charts import Series
from playfield.evaluation.report import report
from playfield.evaluation.report_page import Page, render
from playfield.evaluation.results import Evaluation, add_evaluation
from playfield.training.run import Run, new_manifest

PROTOCOL = {"name": "plain", "sticky": 0.25}
MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes a run's folder as training leaves it, with the lines of its curves."""

    def make(
        name: str,
        *,
        lines: list[dict[str, Any]] | None = None,
        algorithm: str = "dqn",
        env: str | None = "playfield/Catch-v0",
        data: dict[str, Any] | None = None,
        protocol: Mapping[str, Any] = PROTOCOL,
        config: Mapping[str, Any] | None = None,
        seed: int = 0,
        preset: str | None = None,
    ) -> Run:
        manifest = new_manifest(
            command=["playfield", "train", algorithm, "--note", "two words"],
            algorithm=algorithm,
            preset=preset,
            env=env,
            protocol=protocol if env is not None else None,
            data=data,
            config=config or {"gamma": 0.99, "optimizer": {"learning_rate": 0.001}},
            training={"steps": 1000},
            seed=seed,
            device="cpu",
        )
        run = Run.create(tmp_path / "runs", name, manifest)
        run.update_manifest(status="finished", progress=1000, minutes=1.5)
        if lines is not None:
            run.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run

    return make


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> list[list[Series]]:
    """The lines of each chart, in the place of the chart, whose drawing takes its time."""
    lines: list[list[Series]] = []

    def draw(series: Sequence[Series], **_: object) -> bytes:
        lines.append(list(series))
        return b"<svg/>"

    monkeypatch.setattr("playfield.evaluation.report_curves.line_chart", draw)
    return lines


def line(progress: int, **values: float | None) -> dict[str, Any]:
    """A line of the curves; "train__loss" is the metric train/loss."""
    return {"progress": progress, **{n.replace("__", "/"): v for n, v in values.items()}}


def played(run: Run, scores: list[float], **changes: Any) -> None:
    """Write an evaluation of `run` with these scores."""
    fields: dict[str, Any] = {
        "env": run.world,
        "protocol": run.manifest["protocol"],
        "checkpoint": "000000001000",
        "progress": 1000,
        "episodes": len(scores),
        "num_envs": 1,
        "seed": 5,
        "epsilon": 0.001,
        "scores": tuple(scores),
        "steps": (9,) * len(scores),
        "truncated": 0,
        "finished_at": "2026-01-31T12:00:00+00:00",
    }
    add_evaluation(run.folder / "evaluation.json", Evaluation(**fields | changes))


def png(shade: int, frames: int = 1) -> bytes:
    pictures = [Image.fromarray(np.full((6, 8, 3), shade + i, np.uint8)) for i in range(frames)]
    encoded = io.BytesIO()
    pictures[0].save(encoded, "PNG", save_all=frames > 1, append_images=pictures[1:])
    return encoded.getvalue()


def gif(frames: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (frames, 32, 32, 3), np.uint8)
    pictures = [Image.fromarray(each) for each in noise]
    encoded = io.BytesIO()
    pictures[0].save(encoded, "GIF", save_all=True, append_images=pictures[1:], loop=0)
    return encoded.getvalue()


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


MP4 = box(b"ftyp", b"isom") + box(b"moov", bytes(20)) + box(b"mdat", bytes(50))


@dataclass
class Seen(HTMLParser):
    """What a browser would find in a page."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""
    code: str = ""
    open: list[str] = field(default_factory=list)
    scrolled: list[bool] = field(default_factory=list)  # of every table: stands it in a .scroll?
    inside: list[dict[str, str | None]] = field(default_factory=list)

    VOID = frozenset({"meta", "link", "img", "br"})

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.scrolled.append(any(each.get("class") == "scroll" for each in self.inside))
        if tag not in self.VOID:
            self.open.append(tag)
            self.inside.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        if tag == "code":
            self.code += "\n"
        self.inside.pop()

    def handle_data(self, data: str) -> None:
        if "code" in self.open:
            self.code += data
        if "style" not in self.open:
            self.text += " ".join(data.split()) + "\n" if data.strip() else ""

    def addresses(self) -> list[str]:
        found = [attrs.get(name) for _, attrs in self.tags for name in ("src", "href", "srcset")]
        return [address for address in found if address is not None]


def seen(html: str) -> Seen:
    parser = Seen()
    parser.feed(html)
    parser.close()
    assert not parser.open
    return parser


def page_of(*runs: Run) -> Seen:
    return seen(render(report(runs, "Made today.")))


def embedded(page: Seen, kind: str) -> list[bytes]:
    """The files of this MIME type in the page."""
    start = f"data:{kind};base64,"
    return [
        base64.b64decode(a.removeprefix(start)) for a in page.addresses() if a.startswith(start)
    ]


def table(page: Page, title: str) -> list[dict[str, str]]:
    """The rows of the table with this title, by the names of the columns."""
    (found,) = [t for section in page.sections for t in section.tables if t.title == title]
    return [dict(zip(found.head, row, strict=True)) for row in found.rows]
