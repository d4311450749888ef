"""Training on a GPU: the CPU's gradients, autocast, and DistributedDataParallel on one GPU."""

from __future__ import annotations

import pytest
import torch

from espnet2_tfckd.bin import enh_kd_train
from espnet2_tfckd.distiller.registry import distillers
from tests.training.distilling import batch, build, kd_options, scheme_options

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def gradients(model, device: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients in double precision, so that devices differ by rounding alone."""
    model = model.to(device=device, dtype=torch.float64).train()
    model.zero_grad()
    signals = {name: signal.to(device, torch.float64) for name, signal in batch().items()}
    loss, _, _ = model(**signals)
    loss.backward()
    grads = {n: p.grad.cpu().clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss.item(), grads


@pytest.mark.parametrize("scheme", distillers())
def test_loss_and_gradients_are_those_of_the_cpu(scheme, tmp_path, teacher_files):
    model = build(tmp_path / "kd", teacher_files, **scheme_options(scheme))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    expected, on_cpu = gradients(model, "cpu")
    model.load_state_dict(state)
    actual, on_gpu = gradients(model, "cuda")
    assert actual == pytest.approx(expected, rel=1e-8)
    largest = max(gradient.abs().max() for gradient in on_cpu.values())
    for name, gradient in on_cpu.items():
        assert (on_gpu[name] - gradient).abs().max() < 1e-7 * largest, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scheme", distillers())
def test_autocast_changes_the_loss_by_its_rounding_alone(scheme, dtype, tmp_path, teacher_files):
    model = build(tmp_path / "kd", teacher_files, **scheme_options(scheme)).cuda().train()
    signals = {name: signal.cuda() for name, signal in batch().items()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    exact, _, _ = model(**signals)
    model.load_state_dict(state)
    with torch.autocast("cuda", dtype=dtype):
        loss, stats, _ = model(**signals)
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=0.05, abs=0.05)
    assert all(torch.isfinite(value).all() for value in stats.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("options", [[], ["--use_amp", "true"]])
def test_espnet_trains_on_one_gpu(options, lasting_data, tmp_path, teacher_files):
    command = kd_options(tmp_path / "kd", teacher_files)
    enh_kd_train.main([*command, *lasting_data, "--ngpu", "1", *options])
    assert (tmp_path / "kd" / "valid.loss.best.pth").exists()


def test_distributed_data_parallel_works_on_one_gpu(tmp_path, teacher_files):
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    try:
        model = build(tmp_path / "kd", teacher_files).cuda().train()
        wrapped = torch.nn.parallel.DistributedDataParallel(model, device_ids=[0])
        loss, _, _ = wrapped(**{name: signal.cuda() for name, signal in batch().items()})
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    finally:
        torch.distributed.destroy_process_group()
