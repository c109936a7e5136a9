"""Drives the Celery worker: reads one number of tasks a line, does as many, and writes one line of JSON a round.

A round is timed from the first task sent to the last result read and checked. Sending goes over one connection that is kept
open; results are read many at once with MGET, which is several times faster than waiting for each.
"""

import json
import sys
import time

from app import app, echo


def rounds():
    backend = app.backend
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for line in sys.stdin:
            count = int(line)
            started = time.perf_counter()
            waiting = {}
            for number in range(count):
                given = {"text": f"task {number}"}
                waiting[echo.apply_async((given,), producer=producer).id] = given
            keys = {backend.get_key_for_task(task): task for task in waiting}
            while keys:
                some = list(keys)[:250]
                found = 0
                for key, value in zip(some, backend.client.mget(some)):
                    if value is None:
                        continue
                    answer = json.loads(value)
                    if answer["status"] != "SUCCESS" or answer["result"] != waiting[keys[key]]:
                        raise SystemExit(f"a task ended with {answer}")
                    del keys[key]
                    found += 1
                if found < len(some):
                    time.sleep(0.02)
            seconds = time.perf_counter() - started
            backend.client.delete(*(backend.get_key_for_task(task) for task in waiting))
            print(json.dumps({"tasks": count, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    rounds()
