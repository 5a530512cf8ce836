"""Events on their way to the stream: files of JSON lines in the folder that it watches."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from recsys_spark.config.streaming import Stream
from recsys_spark.errors import UserError
from recsys_spark.online.events import LiveEvent
from recsys_spark.online.opening import events_folder
from recsys_spark.tables.files import new_file, write_synced
from recsys_spark.tables.pointer import sync_directory


class EventFiles:
    """Writes files that appear whole: under a name that the stream does not see, then renamed."""

    def __init__(self, stream: Stream, online: Path) -> None:
        """`online`: `opening.online_folder`.

        Raises UserError where the stream reads times that are not written here, or the folder cannot be made.
        """
        if stream.timestamp_format is not None:
            raise UserError("stream.timestamp_format: the service writes seconds since 1970; leave the key out")
        self.folder = events_folder(stream, online)
        self._names = {**stream.columns, "event_id": stream.event_id}
        self._types = {ours: theirs for theirs, ours in stream.event_types.items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"stream.path {self.folder}: cannot be made ({error.strerror})") from None

    def write(self, events: Sequence[LiveEvent]) -> Path:
        """One file with these events, on the disk when this returns. Raises OSError where it cannot be written."""
        path = self.folder / f"http-{time.time_ns()}-{uuid.uuid4().hex}.json"
        with new_file(path) as hidden:
            write_synced(hidden, "".join(self._line(event) + "\n" for event in events))
        sync_directory(self.folder)
        return path

    def _line(self, event: LiveEvent) -> str:
        told = {**asdict(event), "event_type": self._types.get(event.event_type, event.event_type)}
        named = {self._names[name]: value for name, value in told.items() if value is not None and name in self._names}
        return json.dumps(named, ensure_ascii=False, separators=(",", ":"))
