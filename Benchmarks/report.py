"""The results as a Markdown table, and as bars in an SVG file.

The bars are logarithmic: a footer takes milliseconds and a walk over all chunks seconds. The picture brings its own
background, so that it can be read on a light page and on a dark one, whichever of the two its reader's system asks for.
"""

import datetime
import math
import os
import pathlib
import platform
import re
from xml.sax.saxutils import escape

WIDTH = 860
LEFT = 140
RIGHT = 90
BAR = 11
BAR_STEP = 14
SCENE_HEAD = 24
SCENE_GAP = 12
TOP = 56
COLOURS = ["#8b949e", "#2f81f7", "#db6d28", "#e3a869", "#a371f7"]
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .scene { font-weight: 600 }
  .title { font-size: 15px; font-weight: 600 }
  .quiet { fill: #59636e }
  .page { fill: #ffffff; stroke: #d1d9e0 }
  .grid { stroke: #d1d9e0 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .quiet { fill: #9198a1 }
    .page { fill: #0d1117; stroke: #3d444d }
    .grid { stroke: #3d444d }
  }
"""


def by_scene(results):
    scenes = {}
    for values in results:
        scenes.setdefault(values["scene"], []).append(values)
    return scenes


# The table.


def markdown(results, versions, runs, origin_note):
    lines = [f"{datetime.date.today():%Y-%m-%d}; {machine()}. {origin_note}".strip(), ""]
    lines += [f"Median of {runs} runs: seconds; requests to the server and bytes that it sent; highest resident memory "
              "(RSS) of the daemon in any run. The fastest mount is in bold.", ""]
    names = list(dict.fromkeys(values["peer"] for values in results))
    lines += ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for scene, rows in by_scene(results).items():
        best = fastest_mount(rows)
        lines.append(f"| {scene} | " + " | ".join(cells(row, "<br>", bold=row is best) for row in rows) + " |")
    lines += ["", f"Seconds to mount (not in the figures above): {mount_times(results, names)}.", ""]
    lines += [f"- {name} {version}: `{options}`" for name, version, options in versions if version]
    return "\n".join(lines) + "\n"


def cells(values, separator="  ", bold=False):
    if "error" in values:
        # The whole of it is in the JSON file.
        return "failed: " + re.sub(r"[|\s]+", " ", values["error"])[-200:]
    time = duration(values["seconds"])
    parts = [f"**{time}**" if bold else time]
    if values["peak_rss_in_bytes"] is not None:
        parts.append(f"{values['requests']:.0f} requests, {megabytes(values['bytes_sent'])}")
        parts.append(f"RSS {megabytes(values['peak_rss_in_bytes'])}")
    return separator.join(parts)


def fastest_mount(rows):
    mounts = [row for row in rows if row.get("peak_rss_in_bytes") is not None]
    return min(mounts, key=lambda row: row["seconds"], default=None)


def mount_times(results, names):
    times = {name: [row["mount_seconds"] for row in results if row["peer"] == name and "seconds" in row
                    and row["peak_rss_in_bytes"] is not None] for name in names}
    return ", ".join(f"{name} {sorted(all_)[len(all_) // 2]:.2f}" for name, all_ in times.items() if all_)


def duration(seconds):
    return f"{seconds:.3f} s" if seconds < 1 else f"{seconds:.2f} s"


def megabytes(size_in_bytes):
    return f"{size_in_bytes / 1e6:.1f} MB" if 0 < size_in_bytes < 10e6 else f"{size_in_bytes / 1e6:.0f} MB"


def machine():
    processor = re.search(r"model name\s*: (.+)", pathlib.Path("/proc/cpuinfo").read_text())
    kernel = re.match(r"\d+\.\d+", platform.release())
    system = re.search(r'PRETTY_NAME="(.+)"', pathlib.Path("/etc/os-release").read_text())
    return ", ".join([
        f"{os.cpu_count()} cores {processor[1] if processor else platform.machine()}",
        system[1] if system else "Linux", f"kernel {kernel[0] if kernel else platform.release()}"])


# The picture.


def svg(results, names):
    """`names` in the order of the colours."""
    axis = Axis([values["seconds"] for values in results if "seconds" in values])
    body, y = [], TOP
    for scene, rows in by_scene(results).items():
        y += SCENE_HEAD
        body.append(text(16, y - 7, scene, "scene"))
        for row in rows:
            body.append(bar(row, y, axis, COLOURS[names.index(row["peer"]) % len(COLOURS)]))
            y += BAR_STEP
        y += SCENE_GAP
    height = y + 8
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Seconds that each read takes, by program</title>", f"<style>{STYLE}</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
        text(16, 26, "Seconds (logarithmic; shorter is better)", "title"),
        *axis.lines(TOP - 6, y - SCENE_GAP), *body, "</svg>", ""])


class Axis:
    """Seconds to a position, from the power of ten below all that is drawn to the longest of it."""

    def __init__(self, all_seconds):
        self.first = math.floor(math.log10(min(all_seconds, default=0.1)))
        self.last = max(math.log10(max(all_seconds, default=1)), self.first + 1)

    def position(self, seconds):
        share = (math.log10(seconds) - self.first) / (self.last - self.first)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def lines(self, top, bottom):
        for power in range(self.first, math.floor(self.last) + 1):
            x = self.position(10 ** power)
            yield f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>'
            yield text(x, top - 5, f"{10.0 ** power:g} s", "quiet", "middle")


def bar(row, y, axis, colour):
    label = text(LEFT - 8, y + BAR - 1, row["peer"], "quiet", "end")
    if "error" in row:
        return label + text(LEFT + 6, y + BAR - 1, "failed")
    end = axis.position(row["seconds"])
    return (label + f'<rect x="{LEFT}" y="{y}" width="{max(end - LEFT, 1):.1f}" height="{BAR}" rx="2" '
            f'fill="{colour}"/>' + text(end + 6, y + BAR - 1, duration(row["seconds"])))


def text(x, y, words, style="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>'
