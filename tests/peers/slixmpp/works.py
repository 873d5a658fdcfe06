"""The works of tests/examples/beside_clients.rs, by slixmpp: ADDRESS DOMAIN WORK N.

Says "begin" when it is prepared, waits for a line, works, says "done" with its figures, and ends with
its input. It trusts the CA in SSL_CERT_FILE. Allocations and heap are not counted in Python.
"""

import asyncio
import os
import statistics
import sys
import time

import slixmpp

PASSWORD = "secret"
BODY = (
    "What do you say to a walk along the river when the rain is over? "
    "I would bring the letters, and we could read them on the bridge."
)
FIRST_IDLE = 10


class Client(slixmpp.ClientXMPP):
    def __init__(self, user, resource):
        super().__init__(f"u{user}@{DOMAIN}/{resource}", PASSWORD)
        self.ca_certs = os.environ["SSL_CERT_FILE"]
        self.enable_starttls = False
        self.enable_plaintext = False
        self.enable_direct_tls = True
        self.is_up = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", lambda _: self.is_up.set_result(None))


async def connect(user, resource):
    client = Client(user, resource)
    client.connect(HOST, PORT)
    await client.is_up
    return client


def begin():
    print("begin", flush=True)
    sys.stdin.readline()


async def connects(n):
    begin()
    times = []
    for _ in range(n):
        start = time.monotonic_ns()
        client = await connect(0, "c")
        times.append(time.monotonic_ns() - start)
        await client.disconnect()
    print("done", statistics.median(times), flush=True)


async def send(n):
    client = await connect(1, "s")
    begin()
    for number in range(n):
        client.send_message(mto=f"u0@{DOMAIN}", mbody=BODY, mtype="chat")
        if number % 100 == 99:
            await asyncio.sleep(0)
    # What is sent waits in a queue of the library, and leaves it while this waits for its end.
    print("done -", flush=True)


async def receive(n):
    client = await connect(2, "r")
    got = 0
    all_there = asyncio.get_running_loop().create_future()

    def message(_):
        nonlocal got
        got += 1
        if got == n:
            all_there.set_result(None)

    client.add_event_handler("message", message)
    client.send_presence()
    begin()
    await all_there
    print("done -", flush=True)


async def idle(n):
    clients = [await connect(user, "i") for user in range(FIRST_IDLE, FIRST_IDLE + n)]
    print("begin", flush=True)
    print("done -", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    clients.clear()


address, DOMAIN, work, count = sys.argv[1:]
HOST, PORT = address.rsplit(":", 1)[0], int(address.rsplit(":", 1)[1])
works = {"connect": connects, "send": send, "receive": receive, "idle": idle}


async def main():
    await works[work](int(count))
    await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
