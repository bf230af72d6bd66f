"""Speed, side by side with peers and with the machine's own limits.    python -m benchmarks

machine.py      this machine: its record, its bandwidth, its multiply-add rate
rival.py        one way to run an operation: bound to inputs, then forward, or forward and backward
operations.py   the operations: inputs, our call, the definition that judges, rivals, floor, bars
vector.py, matrix.py    most of them, by their state
systems.py, transitions.py, longhorn.py, planes.py      the others, each file with the loops that are its rivals
layers.py       the same for whole layers, the weights of a peer copied from ours
jax_loops.py, torch_loops.py, packages.py, compiled.py     the rivals
exact.py        right before fast: every rival against the definition in float64
measure.py      time, interleaved between rivals; memory, each in a process of its own
growth.py       time and memory against length
decoding.py     one step of an operation from where it is
steps.py        the latency of one token of every mixer
page.py         the table of docs/benchmarks.md or benchmarks-large.md, with the bars met and not met
"""
