"""What the Python programs of test/clients share: see package oracle for what they are told and what they tell."""
import itertools
import json
import os
import sys
import threading
import time

args = dict(a.split("=", 1) for a in sys.argv[1:])
stopping = threading.Event()
_lock = threading.Lock()


def number(key):
    return int(args.get(key, "0"))


def say(event, **fields):
    line = json.dumps({"event": event, **fields}) + "\n"
    with _lock:
        sys.stdout.write(line)
        sys.stdout.flush()


def text(e):
    """What a person would see of an exception."""
    return f"{type(e).__name__}: {e}" if str(e) else repr(e)


def _watch():
    while os.read(0, 4096):  # not sys.stdin, whose lock a thread would hold at the end
        pass
    stopping.set()


def plan():
    """The ids to write, with a pause after each for the rate."""
    begun, rate, first = time.monotonic(), number("rate"), number("from")
    for id in range(first, first + number("records")):
        if stopping.is_set():
            return
        yield id
        if rate:
            left = begun + (id - first + 1) / rate - time.monotonic()
            if left > 0:
                time.sleep(left)


def sending():
    say("sending", id=number("from"), to=number("from") + number("records") - 1)


def batches():
    """Transactions: their number and the ids in each, which come at their rate."""
    ids, tx = plan(), 1
    for first in ids:
        yield tx, itertools.chain([first], itertools.islice(ids, number("batch") - 1))
        tx += 1


def settled(name, want, attempt):
    """A step of an admin. What brokers learn one after the other is tried until it is as wanted, for a while."""
    end = time.monotonic() + 10
    while True:
        try:
            result = str(attempt())
        except Exception as e:
            result = "error: " + text(e).split(": Request ")[0]  # kafka-python tells the whole request, with its version
        if want is None or result == want or time.monotonic() > end:
            break
        time.sleep(0.1)
    say("step", name=name, result=result.replace(args["topic"], "TOPIC"))


def step(name, attempt):
    settled(name, None, attempt)


def main(version, roles):
    threading.Thread(target=_watch, daemon=True).start()
    try:
        say("ready", version=version)
        roles[args["role"]]()
        say("done")
    except BaseException as e:
        say("error", text=text(e), fatal=True)
        os._exit(1)
    os._exit(0)  # libraries leave threads behind
