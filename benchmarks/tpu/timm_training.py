"""Training steps of timm's mixnet_s in PyTorch, as a rival; needs torch and timm alone.

python benchmarks/tpu/timm_training.py IMAGES SIZE

reads numbers of steps, one in a line, and prints the seconds of a step; at the end, its peak memory in MB.
"""

import resource
import sys
import time

import timm.optim
import timm.utils
import torch


def timm_step(images, size, compiled=False, precision="float32"):
    """A function that takes a number of training steps of timm's mixnet_s, in channels_last, and waits for the last.

    A step has the recipe's label smoothing, timm's RMSProp with weight decay, and an average of the weights.

    Args:
        images: Images of a step; they are random.
        size: Pixels of an image.
        compiled: Whether the network is compiled by `torch.compile`.
        precision: "float32", or "bfloat16" for autocast.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = timm.create_model("mixnet_s", pretrained=False).to(device, memory_format=torch.channels_last)
    average = timm.utils.ModelEmaV2(model, decay=0.9999)
    optimizer = timm.optim.RMSpropTF(model.parameters(), lr=0.01, alpha=0.9, momentum=0.9, eps=0.001, weight_decay=1e-5)
    inputs = torch.rand(images, 3, size, size, device=device).to(memory_format=torch.channels_last)
    labels = torch.zeros(images, dtype=torch.long, device=device)
    run = torch.compile(model) if compiled else model
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)

    def steps(number):
        for _ in range(number):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                loss = loss_of(run(inputs), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            average.update(model)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return steps


def main(images, size):
    """Says "ready" once the network is made and has trained two steps."""
    steps = timm_step(int(images), int(size))
    steps(2)
    print('"ready"', flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        steps(int(line))
        print((time.perf_counter() - started) / int(line), flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
