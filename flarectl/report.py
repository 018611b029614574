"""How a command over many things went: counted, told as it happens, summed up, and turned into an exit code."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from flarectl import render
from flarectl.errors import ExitCode, Failure
from flarectl.progress import Bars


@dataclass(frozen=True, slots=True)
class Style:
    """How much a command tells."""

    json: bool = False
    quiet: bool = False


EXISTING = "it is there already"
SHOWN_MAX = 10
"""Of failures that are alike but for a name."""
KINDS_MAX = 50
SHARED_CAUSES = {
    "NoSuchBucket", "VolumeFull", "MetadataFull", "NoPlacement", "QuorumNotReached", "Busy", "ConnectionLost",
    "Unauthenticated", "ENOSPC", "EDQUOT", "EROFS",
}  # fmt: skip
"""Codes of failures that are not about one thing: the first one says all there is to say."""


class Report:
    """Use it as a context: its end takes the bars off and prints the summary."""

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
        """How many failures of each kind there were."""

    @property
    def _words(self) -> str:
        """What became of the things, for a person."""
        return f"would be {self._done_word}" if self._dry_run else self._done_word

    def done(self, name: str, record: dict[str, object]) -> None:
        """One thing is done, or would be."""
        self.done_count += 1
        self.bars.file_done()
        if self._style.json:
            render.say_json({"done": self._done_word, **record, **({"dry_run": True} if self._dry_run else {})})
        elif self._dry_run:
            render.say(render.shown(f"{self._words}: {name}"))

    def existing(self, name: str) -> None:
        """One thing was left alone because it is there already (--if-not-exists); of many a person hears the number."""
        self._existing_count += 1
        self.bars.file_done()
        if self._style.json:
            self.skipped(name, EXISTING)
        else:
            self.skipped_count += 1
            self._last_existing = name

    def skipped(self, name: str, why: str) -> None:
        """One thing was left alone, which is not a failure."""
        self.skipped_count += 1
        if self._style.json:
            render.say_json({"skipped": name, "reason": why})
        elif not self._style.quiet:
            self._passed_count += 1
            if self._passed_count <= SHOWN_MAX:
                self.bars.say(render.harmless(f"skipped: {name}: {why}"))

    def trouble(self, name: str, what: Failure | str) -> None:
        """A name that cannot be taken: a failure, or as a text why it is passed over."""
        if isinstance(what, Failure):
            self.failed(name, what)
        else:
            self.skipped(name, what)

    def failed(self, name: str, failure: Failure) -> None:
        """One thing failed; the rest goes on. Of many that failed alike, a person sees the first and the number."""
        self.failures.append(failure.exit_code)
        self.bars.file_done()
        if self._style.json:
            render.say_json(render.error_record(name, failure))
        if not self._is_news(failure):
            return
        sentence = failure.sentence()
        text = sentence if name in sentence else f"{name}: {sentence}"
        for line in render.complaint(text, failure.hints):
            self.bars.say(line)

    def _is_news(self, failure: Failure) -> bool:
        """Whether a failure is to be shown, and not only counted."""
        shared = failure.code in SHARED_CAUSES
        # What differs from one to the next are names; a cause that all have in common is said without them.
        kind = (failure.code, "" if shared else type(failure).__name__)
        if kind not in self._alike and len(self._alike) >= KINDS_MAX:
            kind = ("", "")
        self._alike[kind] = self._alike.get(kind, 0) + 1
        return self._alike[kind] <= (1 if shared else SHOWN_MAX)

    def _tell_hidden(self) -> None:
        for (code, _), count in self._alike.items():
            shown = 1 if code in SHARED_CAUSES else SHOWN_MAX
            if count > shown:
                self.bars.say(f"flarectl: {count - shown:,} more failed like this ({code}); --json names each")

    def finish(self, *, interrupted: str = "") -> ExitCode:
        """Sum up; the exit code of the command. ``interrupted`` says how to go on."""
        self.bars.close()
        self._tell_existing()
        self._tell_hidden()
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

    def _tell_existing(self) -> None:
        if self._style.json or self._style.quiet or not self._existing_count:
            return
        if self._existing_count == 1:
            self.bars.say(render.harmless(f"skipped: {self._last_existing}: {EXISTING}"))
        else:
            self.bars.say(f"skipped: {self._existing_count:,} that are there already")

    def _wants_summary(self) -> bool:
        """On a terminal, when there is something to sum up."""
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
