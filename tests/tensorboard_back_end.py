"""What TensorBoard's own back end reads from a folder of runs: the data behind its pages."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.util import tensor_util

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of libraries that TensorBoard brings along
    from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
    from tensorboard.plugins.hparams import api_pb2, backend_context
    from tensorboard.plugins.hparams.list_session_groups import Handler

PLUGINS = ("scalars", "images", "histograms", "text", "hparams", "custom_scalars")
ID = "test"


class Pages:
    """TensorBoard on a folder; `reload` reads what was added since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.multiplexer = EventMultiplexer(tensor_size_guidance=dict.fromkeys(PLUGINS, 0))
        self.context = TBContext(
            data_provider=MultiplexerDataProvider(self.multiplexer, str(folder)),
            logdir=str(folder),
            multiplexer=self.multiplexer,
            plugin_name_to_instance={},
        )
        self.reload()

    def reload(self) -> Pages:
        self.multiplexer.AddRunsFromDirectory(str(self.folder))
        self.multiplexer.Reload()
        return self

    def series(self, tag: str, run: str = ".") -> list[tuple[int, Any]]:
        """(step, array) of every point: numbers, buckets, or the bytes of texts and pictures."""
        events = self.multiplexer.Tensors(run, tag)
        return [(event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in events]

    def steps(self, tag: str, run: str = ".") -> list[int]:
        return [step for step, _ in self.series(tag, run)]

    def plugin(self, tag: str, run: str = ".") -> str:
        return self.multiplexer.SummaryMetadata(run, tag).plugin_data.plugin_name

    def description(self, tag: str, run: str = ".") -> str:
        return self.multiplexer.SummaryMetadata(run, tag).summary_description

    def layout(self) -> Any:
        """What the Custom Scalars page gets, from its JSON."""
        return json.loads(CustomScalarsPlugin(self.context).layout_impl(RequestContext(), ID))

    def hyperparameters(self) -> tuple[set[str], dict[str, Any]]:
        """Columns of settings on the HParams page, and its rows by run: (group, session)."""
        context = backend_context.Context(self.context)
        metadata = context.hparams_metadata(RequestContext(), ID)
        experiment = context.experiment_from_metadata(
            RequestContext(), ID, True, metadata, context.hparams_from_data_provider
        )
        request = api_pb2.ListSessionGroupsRequest(
            start_index=0,
            slice_size=100,
            allowed_statuses=api_pb2.Status.values(),
            include_metrics=True,
        )
        groups = Handler(RequestContext(), context, ID, request).run().session_groups
        rows = {session.name: (group, session) for group in groups for session in group.sessions}
        return {info.name for info in experiment.hparam_infos}, rows
