"""retrain: a 3D segmenter by a semi-supervised method, with or without SFR's pseudo-labels.

L = L_sup + w_pl * L_pl + L_method. This stage owns the first two, the teacher and the schedule; the method
owns L_method. Seeds of data order, crops, initialisation and dropout do not depend on the method, so arms
with the same base seed are paired: to the bit, as far as the method leaves the labelled patches alone.
"""

from __future__ import annotations

import json

import torch

from sfrbench.components.backbone.interface import Passed, passed
from sfrbench.components.base import Ssl
from sfrbench.components.ssl._supervised import pseudo_label_loss, supervised_loss
from sfrbench.components.ssl.step import Step
from sfrbench.engine.context import Pruned, StageContext, seed_for
from sfrbench.engine.training import StepResult, save_weights, train
from sfrbench.engine.volumes import Volumes, check_foreground
from sfrbench.maths.losses import ema_alpha
from sfrbench.maths.sampling import mix
from sfrbench.stages.retrain.data import Batch, Data, labeller
from sfrbench.stages.retrain.models import Models, build_models, update_teacher
from sfrbench.stages.retrain.recipe import VALIDATION, RetrainSettings
from sfrbench.stages.retrain.validation import Best, validator
from sfrbench.stages.select.selection import Selection


def run(ctx: StageContext[RetrainSettings]) -> None:
    """Input ``prepare``, and ``pseudolabel`` or ``finetune`` where ``pseudo`` is offline or online.

    Writes ``model.safetensors`` (the student after the last step), ``model.json`` and ``history.csv``, and
    with validation cases ``best.safetensors`` and ``best.json``; the history then has ``validation_dice`` at
    the steps that ended with a validation. ``networks.safetensors`` holds the method's
    own networks, where it has any, for a round of SFR+ that goes on from here. Such a round has the inputs
    ``before`` (the retrain artefact) and ``select``. Opens labels of labelled cases, and those of validation
    cases for validation only. Raises ``Pruned`` where ``ctx.watch`` says so after a validation.
    """
    volumes = Volumes(ctx.inputs["prepare"])
    split = ctx.settings.split.of(volumes)
    ssl = ctx.component("ssl", Ssl)
    models = build_models(ctx, ssl, len(volumes.classes))
    labels = volumes.labels(split.labelled, "retrain")
    check_foreground(labels.__getitem__, split.labelled)
    data = Data(ctx, ssl, volumes, split, labels, labeller(ctx, volumes), Selection.of(ctx))
    first = ctx.settings.first_iteration
    best = Best()
    validate = validator(ctx, volumes, split, models.student) if split.val else None

    def after_step(step: int) -> dict[str, float]:
        if models.teacher is not None:
            update_teacher(models.teacher, models.student, ema_alpha(first + step, ssl.ema))
        done = step + 1
        if validate is not None and (done % ssl.val_every == 0 or done == ssl.steps):
            dice = validate()
            best.offer(done, dice, models.student)
            if ctx.watch(first + done, dice):
                raise Pruned(f"validation Dice {dice:.4f} at step {done}")
            return {VALIDATION: dice}
        return {}

    train(
        ctx,
        {**models.states(), "best": best},
        models.parameters(),
        ssl.optim,
        steps=ssl.steps,
        checkpoint_every=ssl.checkpoint_every,
        seed=seed_for("retrain", "dropout", ctx.seed),
        batches=data.drawn,
        step_fn=lambda step, drawn: training_step(ctx, ssl, models, data.batch(drawn), step),
        after_step=after_step,
    )
    save_weights(ctx.out / "model.safetensors", models.student.state_dict())
    if models.networks:
        save_weights(ctx.out / "networks.safetensors", models.own_state())
    count = sum(part.numel() for part in models.student.parameters())
    described = {"classes": list(volumes.classes), "parameters": count}
    (ctx.out / "model.json").write_text(json.dumps(described), encoding="utf-8")
    best.write(ctx)


def training_step(
    ctx: StageContext[RetrainSettings], ssl: Ssl, models: Models, batch: Batch, step: int
) -> StepResult:
    """L and its terms; the student sees labelled and unlabelled patches in one forward pass."""
    rng = torch.Generator(ctx.device)
    rng.manual_seed(mix(seed_for("retrain", "noise", ctx.seed), step))
    seen = first_pass(ssl, models, batch, step, rng, ctx.settings.first_iteration)
    labelled = seen.logits_l.shape[0]
    outputs, deep = ssl.outputs(seen), ssl.coarser(seen)
    deep += [()] * (len(outputs) - len(deep))
    share = 1 / len(outputs) if ssl.combine == "mean" else 1.0
    terms: dict[str, torch.Tensor] = {}
    if labelled:
        losses = [
            supervised_loss(ssl, output[:labelled], batch.labels, [level[:labelled] for level in coarser])
            for output, coarser in zip(outputs, deep, strict=True)
        ]
        terms["supervised"] = share * torch.stack(losses).sum()
    if batch.pseudo is not None and ssl.w_pl > 0 and (batch.by_sam is None or len(batch.by_sam)):
        target = chosen(batch.pseudo, batch.by_sam)
        losses = []
        for output, coarser in zip(outputs, deep, strict=True):
            finest, *others = (chosen(level[labelled:], batch.by_sam) for level in (output, *coarser))
            losses.append(pseudo_label_loss(ssl, finest, target, others))
        terms["pseudo"] = share * torch.stack(losses).sum()
    terms["method"] = ssl.loss(seen)
    weights = {"supervised": ssl.supervised_weight(seen), "pseudo": ssl.w_pl}
    loss = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
    return StepResult(loss, {**terms, **seen.values})


def chosen(patches: torch.Tensor, by_sam: torch.Tensor | None) -> torch.Tensor:
    """The patches that L_pl is taken on."""
    return patches if by_sam is None else patches.index_select(0, by_sam)


def first_pass(
    ssl: Ssl, models: Models, batch: Batch, step: int, rng: torch.Generator, before: int = 0
) -> Step:
    """The student's forward pass over the plain patches that the method, or L_pl, asks for.

    ``before``: iterations of earlier trainings that this one goes on from.
    """
    count = batch.labels.shape[0]
    first = count if ssl.plain == "none" else 0
    last = len(batch.images) if ssl.plain == "all" or batch.pseudo is not None else count
    student, images = models.student, batch.images[first:last]
    if len(images):
        seen = passed(student, images)
    else:
        seen = Passed(images.new_zeros((0, models.classes, *images.shape[2:])))
    return Step(
        student=student,
        teacher=models.teacher,
        networks=models.networks,
        images=batch.images,
        labels=batch.labels,
        logits_l=seen.logits[: count - first],
        logits_u=seen.logits[count - first :],
        pseudo=batch.pseudo,
        iteration=before + step,
        steps=before + ssl.steps,
        classes=models.classes,
        rng=rng,
        maps=seen.maps,
        scales=seen.scales,
        features=seen.features,
        coarser=seen.coarser,
        known=batch.known,
    )
