"""check_page.py PAGE REPORT: a page of moec is well-formed, needs nothing outside, and shows the report's numbers.

Tags are closed in order; the only script is the JSON that equals REPORT; every image is a PNG inside the page whose
pixels decode; titles of cells hold values of `expert_loads`, as far as cells have titles of their own. Of a fusion report
titles hold the dependency matrix and the plan, and tables the candidates. Texts in pictures end inside them.
"""
import base64
import html
import html.parser
import json
import re
import struct
import sys
import zlib

VOID = {"meta"}


class Checker(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.scripts, self.images, self.titles, self.data = [], 0, [], [], ""

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts += 1
            assert attributes == {"type": "application/json", "id": "report"}, attributes
        assert tag not in ("link", "iframe", "img", "object"), tag
        assert "src" not in attributes and not any(name.startswith("on") for name in attributes), (tag, attributes)
        if "href" in attributes:
            assert attributes["href"].startswith("data:image/png;base64,"), attributes["href"][:40]
            self.images.append(base64.b64decode(attributes["href"].split(",", 1)[1]))
        for value in attributes.values():
            assert "nan" not in (value or "").lower().split(), (tag, attributes)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, text):
        if self.open and self.open[-1] == "script":
            self.data += text
        if self.open and self.open[-1] == "title":
            self.titles.append(text)


def pixels(image):
    """(width, height) of a PNG, after a look at every chunk's sum and at the pixel stream."""
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    at, stream, size = 8, b"", None
    while at < len(image):
        length, kind = struct.unpack(">I4s", image[at:at + 8])
        body = image[at + 8:at + 8 + length]
        assert struct.unpack(">I", image[at + 8 + length:at + 12 + length])[0] == zlib.crc32(kind + body), kind
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        elif kind == b"IDAT":
            stream += body
        at += 12 + length
    assert len(zlib.decompress(stream)) == size[1] * (size[0] + 1), size
    return size


def check_fusion(report, titles, page):
    """The matrix by its cells, the windows of the plan by what they became, every candidate by its row."""
    seen = {}
    for title in titles:
        match = re.fullmatch(r"removed layer (\d+), later layer (\d+): (\S+)", title)
        if match:
            seen[int(match[1]), int(match[2])] = float(match[3])
    for i, row in enumerate(report.get("calibration", {}).get("dependency", [])):
        for j, value in enumerate(row):
            assert (i, j) in seen if j > i else (i, j) not in seen, (i, j)
            assert j <= i or abs(seen[i, j] - value) <= 1e-3 * value, (i, j)
    for window in (report.get("plan") or {}).get("windows", []):
        assert any(f"FFN of layers {window['first']} to {window['first'] + window['length'] - 1} as one" in title for title in titles)
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    for candidate in report.get("candidates", []):
        assert any(row.startswith(f"<td>{html.escape(candidate['name'])}</td>") for row in rows), candidate["name"]


def check_texts(page):
    """No text of a picture is cut off at its right edge; letters are counted as 6 pixels."""
    for width, body in re.findall(r'<svg width="(\d+)"[^>]*>(.*?)</svg>', page, re.S):
        for attributes, text in re.findall(r"<text ([^>]*)>(?:<title>[^<]*</title>)?([^<]*)</text>", body):
            x = re.search(r'\bx="([\d.]+)"', attributes)
            part = {"end": 0, "middle": 0.5}.get((re.search(r'text-anchor="(\w+)"', attributes) or [0, ""])[1], 1)
            assert "rotate" in attributes or float(x[1]) + part * 6 * len(html.unescape(text)) <= int(width), (width, text)


def main():
    page, report = open(sys.argv[1]).read(), json.load(open(sys.argv[2]))
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open and checker.scripts == 1, checker.open
    assert json.loads(checker.data) == report
    assert "http" not in page
    check_texts(page)
    if "expert_loads" not in report:
        check_fusion(report, checker.titles, page)
        return
    loads = report["expert_loads"]
    if len(loads) * len(loads[0]) > 6000:
        assert (len(loads[0]), len(loads)) in [pixels(image) for image in checker.images]
    else:
        seen = [re.fullmatch(r"layer (\d+), expert (\d+): (\S+)", title) for title in checker.titles]
        seen = [(int(m[1]), int(m[2]), float(m[3].replace(" ", ""))) for m in seen if m]
        ids = [row["layer"] for row in report["layers"]]
        want = [(ids[y], x, value) for y, row in enumerate(loads) for x, value in enumerate(row)]
        assert len(seen) == len(want), (len(seen), len(want))
        for a, b in zip(sorted(seen), sorted(want)):
            assert a[:2] == b[:2] and abs(a[2] - b[2]) <= 1e-3 * max(1, b[2]), (a, b)


main()
