"""The Celery side of `chimera bench tasks`: one task that does the JSON work that the echo skill does.

The settings are those of a queue that must not lose anything as far as Celery can: a task is acknowledged after it was done
(`acks_late`), and given to another worker when its own dies. Prefetch 64 and two processes are Celery's best on two cores.
Nothing here measures; drive.py does.
"""

import os

from celery import Celery

app = Celery("bench", broker=os.environ["CHIMERA_BENCH_REDIS"], backend=os.environ["CHIMERA_BENCH_REDIS"])
app.conf.update(
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=32,  # times two processes: 64
    worker_concurrency=2,
    broker_connection_retry_on_startup=True,
    result_expires=600,
    worker_send_task_events=False,
    task_send_sent_event=False,
)


@app.task(name="bench.echo")
def echo(given):
    """Answers its input, once it is what it should be: an object with one text."""
    if not isinstance(given, dict) or set(given) != {"text"} or not isinstance(given["text"], str):
        raise ValueError("not an object with one text")
    return {"text": given["text"]}
