"""Files that are no samples: how many there are and of which kind, not each of them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from cloakify.data.naming import shown, some
from cloakify.settings.endings import AUDIO

# As many as messages name.
_NAMED = 3


class Skipped:
    """Files that are passed over."""

    def __init__(self) -> None:
        self.count = 0
        self._endings: Counter[str] = Counter()
        self._first: list[str] = []

    def add(self, name: str) -> None:
        """Pass one over."""
        self.count += 1
        self._endings[os.path.splitext(name)[1].lower() or "no ending"] += 1
        self._keep([name])

    def update(self, other: Skipped) -> None:
        """Count others in."""
        self.count += other.count
        self._endings.update(other._endings)
        self._keep(other._first)

    @property
    def first(self) -> list[str]:
        """Some of them, as they sort."""
        return list(self._first)

    @property
    def has_audio(self) -> bool:
        """Whether any of them is sound."""
        return not self._endings.keys().isdisjoint(AUDIO)

    @property
    def instead(self) -> str:
        """What there is instead of samples, for a message."""
        if not self.count:
            return ""
        endings = [ending for ending, _ in self._endings.most_common()]
        seen = some(endings)
        return f" (only {self.count} other file{'s' * (self.count != 1)}: {seen})"

    def note(self, path: Path) -> tuple[str, ...]:
        """What is worth telling of them."""
        if not self.count:
            return ()
        files = f"{self.count} file{'s' * (self.count != 1)}"
        return (
            f"{shown(path)}: {files} not taken for images ({some(self._first, count=self.count)})",
        )

    def _keep(self, names: list[str]) -> None:
        self._first = sorted([*self._first, *names])[:_NAMED]
