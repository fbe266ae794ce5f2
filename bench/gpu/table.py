"""The results of bench/gpu.sh as one table of Markdown. Times of the emulator mean nothing and are not shown."""


def time_of(us, hidden):
    return "-" if hidden else f"{us:.1f}"


def share(floor, us, hidden):
    return "-" if hidden or not us or floor is None else f"{100 * floor / us:.0f} %"


def rate(value, unit, hidden):
    return "-" if hidden or not value else f"{value / unit:.1f}"


def rows_of(report):
    """(what, T, ours, the other, ratio or share of the floor, note)"""
    hidden = report["emulator"]
    stages = report["stages"]

    def result(name):
        return stages.get(name, {}).get("result") or {}

    for target, seen in result("kernels are right").get("targets", {}).items():
        yield f"kernels of {target} on the device", "", f"{seen['kernels']} kernels, {seen['cases']} cases", "", "", "as in their unit tests"
    for target, why in result("kernels are right").get("refused", {}).items():
        yield f"kernels of {target} on the device", "", "left out", "", "", why
    for stage in ("models are right", "layers are right"):
        for name, said in result(stage).items():
            said = " ".join(line for line in said if line) if isinstance(said, list) else f"{said} tokens, graphs as launches"
            yield f"{name} against the CPU" if "text" not in name else name, "", said, "", "", ""
    found = result("ceilings")
    if found:
        yield "reading, GB/s", "", rate(found["read_bytes_per_second"], 1e9, hidden), "", "", ""
        peer = found["torch"]
        yield (f"product of {found['size']}^3, TFLOP/s", "", rate(found["ours_flops"], 1e12, hidden), rate(peer.get("flops"), 1e12, hidden), "",
               peer.get("absent", "other: torch.mm"))
    for key, step in result("kernels against floors").items():
        layer, tokens = key.split()
        for name, kernel in sorted(step["kernels"].items(), key=lambda item: -item[1]["us"]):
            yield (f"{layer}: {name} x{kernel['launches']}, us", tokens, time_of(kernel["us"], hidden),
                   time_of(kernel["floor_us"], hidden) if kernel["floor_us"] is not None else "-", share(kernel["floor_us"], kernel["us"], hidden),
                   "other: floor")
    for key, row in result("MoE layer against peers").items():
        layer, tokens = key.split()
        ours = row["ours"]
        yield f"MoE layer {layer}, us", tokens, time_of(ours["us"], hidden), time_of(ours["floor_us"], hidden), share(ours["floor_us"], ours["us"], hidden), "other: floor"
        for name, peer in row.items():
            if name == "ours":
                continue
            if "absent" in peer:
                yield f"MoE layer {layer}, us", tokens, time_of(ours["us"], hidden), "-", "-", f"other: {name}: {peer['absent']}"
            else:
                yield (f"MoE layer {layer}, us", tokens, time_of(ours["us"], hidden), time_of(peer["us"], hidden),
                       "-" if hidden else f"{peer['us'] / ours['us']:.2f}x",
                       f"other: {name}, {peer['how']}" + ("" if hidden else f", {share(peer['floor_us'], peer['us'], hidden)} of its floor"))
    speeds = result("decode")
    for key, value in speeds.items():
        if key.endswith(" graphs"):
            for label, other in (("launches", "without graphs"), ("in turn", "each kernel when the one before has ended")):
                speed = speeds[f"{key[:-7]} {label}"]
                yield f"{key[:-7]}: decode, tokens/s", "1", f"{value:.0f}", f"{speed:.0f}", f"{value / speed:.2f}x", f"other: {other}"
    for tokens, row in result("fused FFNs").items():
        alone = row["1"]["ffns_us"]
        for length, entry in row.items():
            if length != "1":
                yield (f"{length} FFNs as one, all FFNs, us", tokens, time_of(entry["ffns_us"], hidden), time_of(alone, hidden),
                       "-" if hidden else f"{alone / entry['ffns_us']:.2f}x", "other: in turn")


def render(report):
    lines = [f"Commit {report['commit']}, {report['card']}, {report['date']}, size {report['size']}"
             + (": on the emulator, so without times" if report["emulator"] else "") + "", ""]
    for name, stage in report["stages"].items():
        if stage["status"] != "passed":
            lines += [f"* {name}: {stage['status']}: {stage.get('why', '')}"]
    header = ("what", "T", "ours", "other", "ratio", "note")
    lines += ["", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows_of(report)]
    return "\n".join(lines) + "\n"
