"""The outcome of a command over many things: reported as it happens, counted, summed up, turned into an exit code."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from flarectl import render
from flarectl.errors import ExitCode, Failure
from flarectl.progress import Bars


@dataclass(frozen=True, slots=True)
class Style:
    """How much a command prints."""

    json: bool = False
    quiet: bool = False


EXISTING = "it exists already"
SHOWN_MAX = 10
"""How many failures that differ only in a name are shown."""
KINDS_MAX = 50
SHARED_CAUSES = {
    "NoSuchBucket", "VolumeFull", "MetadataFull", "NoPlacement", "QuorumNotReached", "Busy", "ConnectionLost",
    "Unauthenticated", "ENOSPC", "EDQUOT", "EROFS",
}  # fmt: skip
"""Codes of failures that concern the whole cluster: showing the first one is enough."""


class Report:
    """A context manager: its end removes the bars and prints the summary."""

    def __init__(self, done_word: str, style: Style, *, dry_run: bool = False, summary: bool = True) -> None:
        self._done_word = done_word
        self._style = style
        self._dry_run = dry_run
        self.bars = Bars(visible=not (style.quiet or style.json or dry_run))
        self._summary = summary
        self.done_count = 0
        self.skipped_count = 0
        self._last_existing = ""
        self._existing_count = 0
        self.failures: list[ExitCode] = []
        self._passed_count = 0
        self._alike: dict[tuple[str, str], int] = {}
        """The number of failures of each kind."""

    @property
    def _words(self) -> str:
        """Say what the command does to each thing, for a person."""
        return f"would be {self._done_word}" if self._dry_run else self._done_word

    def done(self, name: str, record: dict[str, object]) -> None:
        """Report one thing that is done, or would be."""
        self.done_count += 1
        self.bars.file_done()
        if self._style.json:
            render.say_json({"done": self._done_word, **record, **({"dry_run": True} if self._dry_run else {})})
        elif self._dry_run:
            render.say(render.shown(f"{self._words}: {name}"))

    def existing(self, name: str) -> None:
        """Report one thing that was skipped because it exists (--if-not-exists); of many, only the number is shown."""
        self._existing_count += 1
        self.bars.file_done()
        if self._style.json:
            self.skipped(name, EXISTING)
        else:
            self.skipped_count += 1
            self._last_existing = name

    def skipped(self, name: str, why: str) -> None:
        """Report one thing that was skipped, which is not a failure."""
        self.skipped_count += 1
        if self._style.json:
            render.say_json({"skipped": name, "reason": why})
        elif not self._style.quiet:
            self._passed_count += 1
            if self._passed_count <= SHOWN_MAX:
                self.bars.say(render.harmless(f"skipped: {name}: {why}"))

    def trouble(self, name: str, what: Failure | str) -> None:
        """Report a name that cannot be used: a Failure, or the reason why it is skipped."""
        if isinstance(what, Failure):
            self.failed(name, what)
        else:
            self.skipped(name, what)

    def failed(self, name: str, failure: Failure) -> None:
        """Report one failure; the command goes on. Of many alike, a person sees the first few and the number."""
        self.failures.append(failure.exit_code)
        self.bars.file_done()
        if self._style.json:
            render.say_json(render.error_record(name, failure))
        if not self._is_shown(failure):
            return
        sentence = failure.sentence()
        text = sentence if name in sentence else f"{name}: {sentence}"
        for line in render.complaint(text, failure.hints):
            self.bars.say(line)

    def _is_shown(self, failure: Failure) -> bool:
        """Return whether a failure is shown, and not only counted."""
        shared = failure.code in SHARED_CAUSES
        # Failures with one cause differ only in names, so they are compared without them.
        kind = (failure.code, "" if shared else type(failure).__name__)
        if kind not in self._alike and len(self._alike) >= KINDS_MAX:
            kind = ("", "")
        self._alike[kind] = self._alike.get(kind, 0) + 1
        return self._alike[kind] <= (1 if shared else SHOWN_MAX)

    def _report_hidden(self) -> None:
        for (code, _), count in self._alike.items():
            shown = 1 if code in SHARED_CAUSES else SHOWN_MAX
            if count > shown:
                self.bars.say(f"flarectl: {count - shown:,} more failed like this ({code}); --json names each")

    def finish(self, *, interrupted: str = "") -> ExitCode:
        """Print the summary and return the command's exit code. ``interrupted`` says how to go on."""
        self.bars.close()
        self._report_existing()
        self._report_hidden()
        if self._passed_count > SHOWN_MAX:
            self.bars.say(f"skipped: {self._passed_count - SHOWN_MAX:,} more; --json names each")
        seconds = time.monotonic() - self.bars.started
        if self._style.json:
            render.say_json({"summary": self._record(seconds)})
        elif self._wants_summary():
            for line in self._lines(seconds):
                self.bars.say(line)
        elif len(self.failures) > 1:
            self.bars.say(f"flarectl: {len(self.failures):,} failed, {self.done_count:,} {self._words}")
        if interrupted:
            done = f" after {self.done_count} {self._words}" if self.done_count else ""
            self.bars.say(f"flarectl: interrupted{done}; {interrupted}")
            return ExitCode.INTERRUPTED
        return self._exit_code()

    def _report_existing(self) -> None:
        if self._style.json or self._style.quiet or not self._existing_count:
            return
        if self._existing_count == 1:
            self.bars.say(render.harmless(f"skipped: {self._last_existing}: {EXISTING}"))
        else:
            self.bars.say(f"skipped: {self._existing_count:,} that exist already")

    def _wants_summary(self) -> bool:
        """Return True on a terminal, if there is something to sum up."""
        if not self._summary or self._dry_run or self._style.quiet or not render.is_terminal(sys.stderr):
            return False
        return bool(self.bars.bytes) or self.done_count + self.skipped_count + len(self.failures) > 1

    def _exit_code(self) -> ExitCode:
        if self.failures:
            return self.failures[0] if len(set(self.failures)) == 1 else ExitCode.FAILED
        return ExitCode.NOTHING_DONE if self._existing_count and not self.done_count else ExitCode.DONE

    def _record(self, seconds: float) -> dict[str, object]:
        return {
            self._done_word: self.done_count,
            "skipped": self.skipped_count,
            "failed": len(self.failures),
            "bytes": self.bars.bytes,
            "seconds": round(seconds, 3),
        }

    def _lines(self, seconds: float) -> list[str]:
        moved = self.bars.bytes
        rate = f", {render.size_text(moved / seconds)}/s" if moved and seconds else ""
        counts = [f"{self.done_count:,} {self._words}"]
        counts += [f"{self.skipped_count:,} skipped"] if self.skipped_count else []
        counts += [f"{len(self.failures):,} failed"] if self.failures else []
        transferred = [f"Transferred:  {render.size_text(moved)}{rate}"] if moved else []
        return [
            *transferred,
            f"Objects:      {', '.join(counts)}",
            f"Elapsed time: {render.duration_text(seconds)}",
        ]
