"""The other side of bench/peer.ts: JSON lines on stdin, JSON lines on stdout.

    {"action": "hello", "threads": 2, "device": "cpu"}        -> {"torch": "2.13.0"}
    {"action": "setup", "case": ID, "options": {}}            -> {"variants": [..], "unavailable": {..}}
    {"action": "run", "case": ID, "variant": NAME, "slice_ms": 30} -> {"times_ms": [..]}
    {"action": "close", "case": ID}                           -> {}

Every answer has "ok"; a failure has "error". A slice is one untimed call (so that sleeping threads
and cold caches are nobody's loss) and as many timed calls as fit, at least one; "times_ms" is
their mean. `worker.py --peak CASE VARIANT THREADS DEVICE` runs one variant once and prints what
it added to the resident set of this process.
"""

import gc
import json
import sys
import time
import warnings


def main():
    warnings.filterwarnings("ignore")
    if sys.argv[1:2] == ["--peak"]:
        print(json.dumps(peak(*sys.argv[2:6])))
        return
    session = Session()
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            answer = {"ok": True, **session.handle(json.loads(line))}
        except Exception as error:  # the other side decides what a failed request means
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


class Session:
    def __init__(self):
        self.device = "cpu"
        self.variants = {}

    def handle(self, request):
        return getattr(self, "on_" + request["action"])(request)

    def on_hello(self, request):
        import torch

        torch.set_num_threads(int(request["threads"]))
        self.device = request["device"]
        return {"torch": torch.__version__.split("+")[0], "threads": torch.get_num_threads()}

    def on_setup(self, request):
        cases = load_cases()
        if request["case"] not in cases:
            return {"variants": [], "unavailable": {}}
        instance = cases[request["case"]](self.device, request.get("options", {}))
        ways = instance.variants()
        usable = {name: run for name, run in ways.items() if callable(run)}
        results = {name: run() for name, run in usable.items()}
        instance.check(results)
        self.variants[request["case"]] = usable
        reasons = {name: str(way) for name, way in ways.items() if name not in usable}
        return {"variants": list(usable), "unavailable": reasons}

    def on_run(self, request):
        run = self.variants[request["case"]][request["variant"]]
        return {"times_ms": timed(run, request["slice_ms"], self.synchronize)}

    def on_close(self, request):
        self.variants.pop(request["case"], None)
        gc.collect()
        return {}

    def synchronize(self):
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize()


def load_cases():
    import attention  # noqa: F401  (registers its cases)
    import conv  # noqa: F401
    import hvp  # noqa: F401
    import karat  # noqa: F401
    import lanczos  # noqa: F401
    import norm  # noqa: F401
    import resnet20  # noqa: F401
    import slq  # noqa: F401
    import train  # noqa: F401
    import vit  # noqa: F401
    import ws  # noqa: F401
    from registry import CASES

    return CASES


def timed(run, slice_ms, synchronize):
    """Milliseconds per call: mean over the calls of one slice."""
    began = time.perf_counter()
    run()
    synchronize()
    once = (time.perf_counter() - began) * 1e3
    if once > 10 * slice_ms:
        # Long calls warm up within themselves.
        return [once]
    calls = max(1, round(slice_ms / max(once, 1e-3)))
    began = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize()
    return [(time.perf_counter() - began) * 1e3 / calls]


def peak(identifier, variant, threads, device):
    """Peak resident bytes above what the process holds with torch loaded and its threads up."""
    import torch

    torch.set_num_threads(int(threads))
    cases = load_cases()
    a = torch.randn(256, 256)
    (a @ a).sum().item()
    gc.collect()
    baseline = resident("VmRSS")
    reset_peak()
    run = cases[identifier](device, {}).variants()[variant]
    run()
    return {"baseline": baseline, "peak": resident("VmHWM"), "bytes": resident("VmHWM") - baseline}


def resident(field):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def reset_peak():
    """Importing torch peaks above what it keeps; the kernel forgets that peak on request."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


if __name__ == "__main__":
    main()
