"""A soak's figures, for people and as JSON."""

import json

MIB = 1 << 20


def split_statuses(totals):
    """Faults by kind, as the store counted them, and the kind "status" by its number.

    Nothing else here answers with these: a skewed clock is a 403 too, and has its own kind.
    """
    faults = dict(totals["faultsByKind"])
    if faults.pop("status", 0):
        statuses = {int(status): count for status, count in pairs(totals["requestsByStatus"])}
        statuses[403] = statuses.get(403, 0) - faults.get("clockSkew", 0)
        faults.update({f"status {number}": statuses[number] for number in (403, 404, 412, 500, 503)
                       if statuses.get(number)})
    return faults


def pairs(encoded):
    """A dictionary with numbers as keys, in either of the shapes in which Swift writes one."""
    return encoded.items() if isinstance(encoded, dict) else zip(encoded[::2], encoded[1::2])


def text(figures):
    highest, bounds = figures["highest"], figures["bounds"]
    lines = [
        f"seed {figures['seed']}, {figures['readers']} readers, {figures['seconds']:.0f} s with faults; "
        f"{figures['restarts_text']}",
        f"reads             {figures['calls']:,} calls in {figures['programs']:,} programs; "
        f"{figures['killed']:,} readers killed",
        f"bytes compared    {figures['bytes_compared']:,} ({figures['bytes_compared'] / (1 << 30):.1f} GiB)",
        f"wrong bytes       {figures['wrong_reads']} reads with wrong bytes",
        f"requests          {figures['requests']:,} at the store, {figures['bytes_sent'] / (1 << 30):.1f} GiB sent",
        f"faults            {sum(figures['faults'].values()):,}: {counts(figures['faults'])}",
        f"errors seen       {sum(figures['errors'].values()):,}: {counts(figures['errors'])}",
        f"longest call      {figures['longest_call_seconds']:.1f} s of {bounds['call_seconds']:.0f} "
        f"({figures['longest_call']})",
        f"                  {len(figures['slow_calls'])} calls took longer than the read timeout",
        f"slowest status    {figures['slowest_status_seconds']:.2f} s",
        f"memory            {highest['memory_bytes'] / MIB:.1f} MiB of {bounds['memory_bytes'] / MIB:.1f}",
        f"descriptors       {highest['descriptors']} of {bounds['descriptors']}",
        f"threads           {highest['threads']} of {bounds['threads']}",
        f"cache on disk     {highest['cache_bytes'] / MIB:.1f} MiB of {bounds['cache_bytes'] / MIB:.1f}, "
        f"in {figures['samples']['cache']:,} samples",
    ]
    if figures["problems"]:
        lines += [f"{len(figures['problems'])} PROBLEMS", *figures["problems"][:50]]
        lines += [f"To play the same again: Tests/soak {figures['arguments']}"]
    else:
        lines += ["no problem"]
    return "\n".join(lines)


def counts(table):
    return ", ".join(f"{name} {count:,}" for name, count in sorted(table.items(), key=lambda item: -item[1])) or "none"


def write_json(path, figures):
    path.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")
