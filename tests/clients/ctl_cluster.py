"""`millracectl` on a cluster of three nodes, one of which is killed and comes back."""

import json
import subprocess

from harness import paths
from harness.ctl import answer
from harness.nodes import cluster, create
from harness.suite import equal, eventually, main, test, unique


def health(address: str) -> tuple[int, dict]:
    """The exit status, and what is wrong by its kind; a disk that is nearly full is the machine's affair."""
    done = subprocess.run([paths.binary("millracectl"), "--bootstrap", address, "--timeout", "5", "cluster", "health", "--json"],
                          capture_output=True, text=True, timeout=60)
    if done.returncode not in (0, 4):
        return done.returncode, {}
    problems = json.loads(done.stdout)["problems"]
    equal(done.returncode, 4 if problems else 0, done.stdout)
    return done.returncode, {(one["problem"], one["place"]) for one in problems if one["problem"] != "nearly-full"}


@test(seconds=180)
def a_node_that_is_gone_is_told():
    with cluster() as nodes:
        first = nodes[0].address
        strict, lax = unique("strict"), unique("lax")
        create(nodes[0], strict, 1, 3, min_insync_replicas="3")
        create(nodes[0], lax, 3, 3, min_insync_replicas="1")
        eventually(lambda: health(first)[1] == set() and health(first)[0] in (0, 4), 60, "all is well")
        equal(answer(first, "produce", lax, stdin="x\n")["records"], 1)
        equal({one["node"] for one in answer(first, "cluster")["nodes"] if one["reachable"]}, {1, 2, 3})
        quorum = answer(first, "cluster", "quorum")
        equal(sorted((one["node"], one["role"] in ("leader", "voter")) for one in quorum["replicas"]), [(1, True), (2, True), (3, True)])
        replicas = answer(first, "logdirs", "--topic", lax)["replicas"]
        equal(sorted((one["partition"], one["node"]) for one in replicas), [(p, n) for p in range(3) for n in (1, 2, 3)])
        equal({one["node"] for one in answer(first, "logdirs", "--topic", lax, "--node", "2")["replicas"]}, {2})

        nodes[2].kill()
        wanted = {("under-min-isr", f"{strict}-0"), *(("out-of-sync", f"{lax}-{p}") for p in range(3)), ("fenced", "node 3")}
        eventually(lambda: wanted <= (health(first)[1] or set()), 60, "what the third node lacks")
        (one,) = answer(first, "topics", "describe", lax)["topics"]
        equal([sorted(partition["isr"]) for partition in one["partitions"]], [[1, 2]] * 3)
        assert all(partition["leader"] in (1, 2) for partition in one["partitions"]), one
        # The others go on.
        equal(answer(first, "produce", lax, "-p", "1", stdin="y\n")["records"], 1)

        nodes[2].start()
        eventually(lambda: health(first)[1] == set() and health(first)[0] in (0, 4), 90, "all is well again")


if __name__ == "__main__":
    main("ctl-cluster")
