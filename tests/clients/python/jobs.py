"""What an RQ job does: it notes that it was done."""

import os

import redis


def work(number):
    redis.Redis(port=int(os.environ["REDWEIR_PORT"])).rpush("rq:test:done", number)
