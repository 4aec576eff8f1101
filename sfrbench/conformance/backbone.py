"""What every backbone holds: shapes, types, weights that follow the seed, parts that make the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from safetensors.torch import load_file
from torch import nn

from sfrbench.components.backbone.interface import (
    ALONE,
    DEEP,
    PARTS,
    SCALES,
    SegmentationNetwork,
    in_parts,
    lacking,
    passed,
)
from sfrbench.components.base import Backbone
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.conformance.checks import Broken, Check, Subject, expect
from sfrbench.engine.training import save_weights
from sfrbench.errors import InputError

#: What a backbone is settled for that takes its topology from the dataset.
PATCH = (32, 32, 32)


def small(subject: Subject, precision: str | None = None) -> Backbone:
    """The card's backbone with as few filters as profile smoke gives it, and the norm of its own."""
    norm = getattr(subject.component(Backbone), "norm", None)
    scaled = subject.scaled(Backbone, norm=norm, **({} if precision is None else {"precision": precision}))
    return cast(Backbone, scaled.settled({"dataset": Phantom(patch=PATCH)}))


def ready(subject: Subject) -> None:
    """Raises ``NotReadyError`` where a package of an extra is missing that the backbone needs."""
    subject.component(Backbone).check_installed()


def _precisions(subject: Subject) -> tuple[str | None, ...]:
    return ("fp32", "bf16") if subject.has("precision") else (None,)


def _built(
    subject: Subject,
    classes: int = 3,
    seed: int = 0,
    precision: str | None = None,
    sides: tuple[int, int, int] | None = None,
) -> nn.Module:
    """The network, of ``sides`` where it is built for patches of one size."""
    backbone = small(subject, precision)
    if subject.has("patch"):
        backbone = backbone.model_copy(update={"patch": sides or _sides(subject)})
    torch.manual_seed(seed)
    return backbone.build(classes)


def _sides(subject: Subject, times: int = 1) -> tuple[int, int, int]:
    x, y, z = small(subject).multiples
    return (2 * times * x, times * y, times * z)


def _images(subject: Subject, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 1, *_sides(subject), generator=torch.Generator().manual_seed(seed))


def logits_have_the_shape(subject: Subject) -> None:
    """Images (B, 1, X, Y, Z) give logits (B, K, X, Y, Z), float32, contiguous and finite."""
    images = _images(subject)
    for precision in _precisions(subject):
        for classes in (2, 5):
            network = _built(subject, classes, precision=precision)
            logits = network(images)
            wanted = (2, classes, *images.shape[2:])
            expect(logits.shape == wanted, f"{tuple(logits.shape)} in the place of {wanted}")
            expect(logits.dtype == torch.float32, f"logits of {logits.dtype}")
            expect(logits.is_contiguous(), "logits that are not contiguous")
            expect(bool(torch.isfinite(logits).all()), "logits that are not finite")
            types = {str(part.dtype) for part in network.parameters()}
            expect(types <= {"torch.float32"}, f"parameters of {', '.join(sorted(types))}")


def images_are_apart(subject: Subject) -> None:
    """In evaluation mode the logits of an image do not depend on what else is in the batch."""
    # at least 16 voxels at the bottleneck: an instance norm of two that are nearly equal shows rounding alone
    sides = _sides(subject, 2)
    images = torch.randn(2, 1, *sides, generator=torch.Generator().manual_seed(0))
    network = _built(subject, sides=sides).eval()
    with torch.no_grad():
        together = network(images)
        for index in range(len(images)):
            far = float((network(images[index : index + 1])[0] - together[index]).abs().max())
            near = far <= 1e-3 * (1 + float(together.abs().max()))
            expect(near, f"image {index} alone has logits that differ by up to {far:.3g}")


def sides_that_do_not_fit_are_refused(subject: Subject) -> None:
    """Sides that are no multiple of the divisor raise an error that names them and the nearest that fits."""
    by = max(small(subject).multiples)
    network = _built(subject)
    calls: list[Callable[[torch.Tensor], object]] = [network]
    if not lacking(network):
        calls += [in_parts(network).features, in_parts(network).encode]
    for sides in ((3 * by + 2, 2 * by, 2 * by + by // 2), (by + 1, by, by), (by // 2, by, by)):
        for call in calls if by > 1 else ():
            try:
                call(torch.zeros(1, 1, *sides))
            except InputError as error:
                told = str(error)
                good = str(list(sides)) in told and f"no multiple of {by}" in told
                expect(good and "nearest that fits" in told, f"for sides {list(sides)} it says: {told}")
            else:
                raise Broken(f"sides {list(sides)} were taken")


def seed_decides_the_weights(subject: Subject) -> None:
    """One state of torch's generator gives the same weights, another one others; precision changes none."""
    one, same, other = (_built(subject, seed=seed).state_dict() for seed in (0, 0, 1))
    expect(_equal(one, same), "two networks of one seed differ")
    expect(not _equal(one, other), "networks of two seeds are equal")
    for precision in _precisions(subject):
        expect(_equal(one, _built(subject, precision=precision).state_dict()), f"{precision}: other weights")


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def stored_weights_are_the_network(subject: Subject) -> None:
    """A network with the stored weights of another one gives the same logits to the bit."""
    trained, images = _built(subject), _images(subject)
    trained(images)  # moves running statistics, where there are any
    save_weights(subject.folder / "model.safetensors", trained.state_dict())
    loaded = _built(subject, seed=5)
    loaded.load_state_dict(load_file(subject.folder / "model.safetensors"))
    with torch.no_grad():
        expect(torch.equal(loaded.eval()(images), trained.eval()(images)), "other logits after loading")


def training_reaches_what_inference_needs(subject: Subject) -> None:
    """Every parameter that the logits depend on in evaluation has a finite gradient in training."""
    images = _images(subject)
    for precision in _precisions(subject):
        network = _built(subject, precision=precision)
        network(images).square().mean().backward()
        network.eval()
        with torch.no_grad():
            logits = network(images)
            for name, part in network.named_parameters():
                if part.grad is None:
                    part.fill_(torch.nan)  # nothing may notice
                else:
                    expect(bool(torch.isfinite(part.grad).all()), f"a gradient of {name} is not finite")
            expect(torch.equal(network(images), logits), "logits depend on parameters without a gradient")


def parts_make_the_whole(subject: Subject) -> None:
    """Encode, decode, drop and head, where it has them, make the logits to the bit, in the known shapes."""
    images = _images(subject)
    for precision in _precisions(subject):
        network = _built(subject, precision=precision)
        if lacking(network):
            return  # a network may know its forward pass only
        parts = in_parts(network)
        _check_shapes(parts, images)
        for training in (False, True):
            network.train(training)
            with torch.no_grad():
                torch.manual_seed(7)
                whole = network(images)
                torch.manual_seed(7)
                features = parts.head(parts.drop(parts.features(images)))
                torch.manual_seed(7)
                decoded = parts.head(parts.drop(parts.decode(parts.encode(images))))
            expect(torch.equal(features, whole), f"training {training}: head(drop(features)) differs")
            expect(torch.equal(decoded, whole), f"training {training}: head(drop(decode(encode))) differs")
        maps = torch.ones(4, parts.feature_channels, 4, 4, 4)
        expect(torch.equal(parts.drop.eval()(maps), maps), "drop changes maps in evaluation")


def _check_shapes(parts: SegmentationNetwork, images: torch.Tensor) -> None:
    maps = parts.encode(images)
    by = [2**level for level in range(len(maps))]
    wanted = [(2, *(side // scale for side in images.shape[2:])) for scale in by]
    seen = [(part.shape[0], *part.shape[2:]) for part in maps]
    expect(seen == wanted, f"encode gives maps of {seen}, not {wanted}")
    width = maps[-1].shape[1]
    expect(
        width == parts.bottleneck_channels, f"bottleneck_channels is {parts.bottleneck_channels}, not {width}"
    )
    features, shape = parts.features(images), (2, parts.feature_channels, *images.shape[2:])
    expect(features.shape == shape, f"features {tuple(features.shape)} in the place of {shape}")


def an_encoding_can_be_decoded_twice(subject: Subject) -> None:
    """Decode, where it has one, changes no map in place, and follows from the bottleneck too."""
    network = _built(subject).eval()
    if lacking(network):
        return
    parts = in_parts(network)
    with torch.no_grad():
        maps = parts.encode(_images(subject))
        kept = [part.clone() for part in maps]
        first, second = parts.decode(maps), parts.decode(maps)
        changed = parts.decode((*maps[:-1], maps[-1] + 1))
    expect(torch.equal(first, second), "two decodings of one encoding differ")
    same = all(torch.equal(one, other) for one, other in zip(maps, kept, strict=True))
    expect(same, "decoding changed the encoding")
    expect(not torch.equal(first, changed), "another bottleneck gives the same features")


def scales_are_the_levels_of_the_decoder(subject: Subject) -> None:
    """Decoder levels, where it gives them, halve from one to the next; the first is what decode gives."""
    images = _images(subject)
    for precision in _precisions(subject):
        network = _built(subject, precision=precision).eval()
        if lacking(network) or lacking(network, SCALES):
            return
        parts = in_parts(network, SCALES)
        with torch.no_grad():
            maps = parts.encode(images)
            scales = parts.decode_scales(maps)
            expect(torch.equal(scales[0], parts.decode(maps)), "the finest level is not what decode gives")
        widths = enumerate(parts.scale_channels)
        wanted = [(2, width, *(side // 2**level for side in images.shape[2:])) for level, width in widths]
        seen = [tuple(part.shape) for part in scales]
        expect(seen == wanted, f"levels {seen} in the place of {wanted}")
        expect(parts.scale_channels[0] == parts.feature_channels, "scale_channels[0] is no feature_channels")


def deep_supervision_is_apart(subject: Subject) -> None:
    """Logits of coarser levels, where it gives them, are float32 in ever smaller sizes; a loss on them trains
    what is below, and what is deployed has the same logits without their heads."""
    images = _images(subject)
    for precision in _precisions(subject):
        network = _built(subject, precision=precision)
        if lacking(network, (*PARTS, *SCALES, *DEEP)):
            return
        seen = passed(network, images)
        expect(torch.equal(seen.logits, network(images)), "the finest logits are not those of the network")
        if not seen.coarser:
            return
        sizes = [logits.shape[2:].numel() for logits in (seen.logits, *seen.coarser)]
        expect(sizes == sorted(set(sizes), reverse=True), f"levels of {sizes} voxels, finest first")
        for logits in seen.coarser:
            expect(logits.shape[:2] == (2, 3), f"logits {tuple(logits.shape)} of 2 images and 3 classes")
            expect(logits.dtype == torch.float32, f"logits of {logits.dtype}")
        torch.stack([logits.square().mean() for logits in seen.coarser]).sum().backward()  # type: ignore[no-untyped-call]
        reached = [part.grad is not None for part in network.parameters()]
        expect(any(reached), "no parameter has a gradient of the coarser levels")
    deployed = small(subject).deployed().build(3)
    whole = _built(subject).eval()
    state = whole.state_dict()
    deployed.load_state_dict({name: state[name] for name in deployed.state_dict()})
    expect(len(state) > len(deployed.state_dict()), "what is deployed keeps the heads of the coarser levels")
    with torch.no_grad():
        expect(torch.equal(deployed.eval()(images), whole(images)), "what is deployed has other logits")


def a_decoder_alone_holds_no_encoder(subject: Subject) -> None:
    """Without its encoder, where that can be taken off, it decodes as before and keeps no more."""
    whole, alone = _built(subject).eval(), _built(subject).eval()
    if lacking(whole) or lacking(whole, ALONE):
        return
    in_parts(alone, ALONE).strip_encoder()
    maps = in_parts(whole).encode(_images(subject))
    with torch.no_grad():
        same = torch.equal(in_parts(alone).decode(maps), in_parts(whole).decode(maps))
    expect(same, "it decodes otherwise")
    torch.stack([part.sum() for part in maps]).sum().backward()  # type: ignore[no-untyped-call]
    encoder = {name for name, part in whole.named_parameters() if part.grad is not None}
    whole(_images(subject)).sum().backward()
    idle = {name for name, part in whole.named_parameters() if part.grad is None}  # of no use to the logits
    left = {name for name, _ in alone.named_parameters()} - idle
    expect(bool(encoder), "the encoder has no parameters")
    wanted = {name for name, _ in whole.named_parameters()} - encoder - idle
    expect(left == wanted, f"parameters too many or too few: {sorted(left ^ wanted)[:6]}")


OF_CARDS: tuple[Check, ...] = ()
FIRST: tuple[Check, ...] = ()
CHECKS: tuple[Check, ...] = (
    logits_have_the_shape,
    images_are_apart,
    sides_that_do_not_fit_are_refused,
    seed_decides_the_weights,
    stored_weights_are_the_network,
    training_reaches_what_inference_needs,
    parts_make_the_whole,
    an_encoding_can_be_decoded_twice,
    scales_are_the_levels_of_the_decoder,
    deep_supervision_is_apart,
    a_decoder_alone_holds_no_encoder,
)
