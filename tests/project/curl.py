"""As much of curl as the documents use, for machines that have none: ``-s -N -i -X -H -d --json URL``."""

import argparse
import sys
import urllib.error
import urllib.request


def main(arguments: list[str]) -> int:
    """Make one request, print the answer's body, and return curl's exit code: 0 for any answer, 7 when nobody answers."""
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("-s", "-N", "-sN", "-Ns", action="store_true")
    parser.add_argument("-i", action="store_true", dest="head")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", action="append", default=[], dest="headers")
    parser.add_argument("-d", dest="data")
    parser.add_argument("--json")
    parser.add_argument("url")
    given = parser.parse_args(arguments)
    body = given.json if given.json is not None else given.data
    headers = dict(header.split(": ", 1) for header in given.headers)
    if given.json is not None:
        headers = {"Content-Type": "application/json", "Accept": "application/json"} | headers
    request = urllib.request.Request(given.url, None if body is None else body.encode(), headers, method=given.method)
    try:
        answer = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:  # an answer too
        answer = error
    except urllib.error.URLError as error:
        print(f"curl: (7) {error.reason}", file=sys.stderr)
        return 7
    with answer:
        if given.head:
            print(f"HTTP/1.1 {answer.status} {answer.reason}\n{answer.headers}", end="", flush=True)
        sys.stdout.buffer.write(answer.read())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
