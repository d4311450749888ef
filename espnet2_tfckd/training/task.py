"""From configuration to objects: ESPnet's enhancement task, with and without a teacher."""

from __future__ import annotations

import argparse

import torch
from espnet2.enh.espnet_model import ESPnetEnhancementModel
from espnet2.tasks.enh import EnhancementTask as ESPnetEnhancementTask
from espnet2.train.class_choices import ClassChoices
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str_or_none

from espnet2_tfckd.distiller import DEFAULT_SCHEME
from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, FeatureShapes, Sizes
from espnet2_tfckd.distiller.registry import distillers
from espnet2_tfckd.models.checkpoint import load_enhancement_model
from espnet2_tfckd.training.feature_tap import FeatureTap
from espnet2_tfckd.training.model import (
    TEACHER_ESTIMATE,
    ESPnetEnhancementKDModel,
    with_features,
)
from espnet2_tfckd.training.ranks import prepare_rank
from espnet2_tfckd.training.trainer import KDTrainer, ResumableTrainer

distiller_choices = ClassChoices(
    name="distiller", classes=distillers(), type_check=AbsDistiller, default=DEFAULT_SCHEME
)


class EnhancementTask(ESPnetEnhancementTask):
    """ESPnet's enhancement task, with a trainer that can resume after being killed."""

    trainer = ResumableTrainer

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """As ESPnet's; every process of several is prepared for it first."""
        if args.distributed:
            prepare_rank(args)
        super().main_worker(args)


class EnhancementKDTask(EnhancementTask):
    """Trains a student with ESPnet's options, a teacher and a distiller."""

    class_choices_list = [*EnhancementTask.class_choices_list, distiller_choices]
    trainer = KDTrainer

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_task_arguments(parser)
        group = parser.add_argument_group(description="Distillation related")
        group.add_argument(
            "--teacher_config",
            type=str_or_none,
            default=None,
            help="config.yaml of the trained teacher",
        )
        group.add_argument(
            "--teacher_model_file",
            type=str_or_none,
            default=None,
            help="Checkpoint of the teacher; it must fit --teacher_config in every key",
        )
        for network in ("student", "teacher"):
            group.add_argument(
                f"--{network}_features",
                action=NestedDictAction,
                default=None,
                help=f"Modules of the {network}'s separator to distil, by set; "
                "needed where it is not a DPDCRN, by schemes that compare features",
            )
        group.add_argument(
            "--distill_weight",
            type=float,
            default=1.0,
            help="Weight of the distillation loss beside the enhancement loss",
        )
        group.add_argument(
            "--distill_every",
            type=int,
            default=1,
            help="Distil one training batch in so many, with so many times the weight",
        )

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return (*super().optional_data_names(train, inference), TEACHER_ESTIMATE)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetEnhancementModel:
        """Build student, teacher and distiller.

        Raises:
            ValueError: If there is neither a teacher nor its estimates, or both, the teacher does
                not fit its checkpoint, the batches are not of one fixed length, a network lacks the
                feature sets that the scheme needs, or one process would train on several GPUs.
        """
        if args.ngpu > 1:  # of a rank it is 1
            raise ValueError(
                f"--ngpu {args.ngpu} in one process would leave the teacher on the first GPU: add "
                "--multiprocessing_distributed true"
            )
        has_estimates = _has_estimates(args)
        if not has_estimates and not (args.teacher_config and args.teacher_model_file):
            raise ValueError(
                "distillation needs --teacher_config and --teacher_model_file, or the data "
                f"{TEACHER_ESTIMATE}"
            )
        student = ESPnetEnhancementTask.build_model(args)
        # Keep the random state, so that the student starts as it would without a teacher.
        with torch.random.fork_rng(devices=[]):
            teacher = None
            if not has_estimates:
                teacher = load_enhancement_model(args.teacher_config, args.teacher_model_file)
            samples = fixed_chunk_length(args)
            student_tap = _tap(args.student_features, student, "student_features")
            teacher_tap = teacher and _tap(args.teacher_features, teacher, "teacher_features")
            scheme = distiller_choices.get_class(args.distiller)
            student_shapes, teacher_shapes, frames = {}, {}, 0
            if scheme.uses_features and teacher is not None:
                student_shapes, frames = feature_shapes(student, samples, student_tap)
                teacher_shapes, teacher_frames = feature_shapes(teacher, samples, teacher_tap)
                if frames != teacher_frames:
                    raise ValueError(
                        f"a chunk has {frames} frames in the student and {teacher_frames} in the "
                        "teacher: use the same encoder_conf.hop_length in both"
                    )
            sizes = Sizes(student_shapes, teacher_shapes, frames, args.batch_size)
            if teacher is None and scheme.uses_features:
                raise ValueError(
                    f"the scheme {args.distiller} compares features, which a teacher's estimates "
                    "do not hold: name a teacher, or take a scheme on outputs, such as response"
                )
            distiller = scheme(sizes, **args.distiller_conf)
        return ESPnetEnhancementKDModel(
            teacher=teacher,
            distiller=distiller,
            distill_weight=args.distill_weight,
            distill_every=args.distill_every,
            student_tap=student_tap,
            teacher_tap=teacher_tap,
            encoder=student.encoder,
            separator=student.separator,
            decoder=student.decoder,
            mask_module=student.mask_module,
            loss_wrappers=student.loss_wrappers,
            **args.model_conf,
        )


def _has_estimates(args: argparse.Namespace) -> bool:
    """Whether the training data hold the teacher's estimates.

    Raises:
        ValueError: If there is a teacher as well, or mixtures are made anew at each visit.
    """
    names = [name for _, name, _ in args.train_data_path_and_name_and_type]
    if TEACHER_ESTIMATE not in names:
        return False
    if args.teacher_config or args.teacher_model_file:
        raise ValueError(
            f"there is a teacher, and its estimates are in the data as {TEACHER_ESTIMATE}: leave "
            "one of them out"
        )
    if args.preprocessor:
        raise ValueError(
            "the preprocessor makes other mixtures than those that the teacher has enhanced: leave "
            f"--preprocessor (--remix_snr) out, or use the teacher itself, not {TEACHER_ESTIMATE}"
        )
    return True


def fixed_chunk_length(args: argparse.Namespace) -> int:
    """Number of samples of every training chunk.

    Raises:
        ValueError: If training batches differ in length.
    """
    if args.iterator_type != "chunk" or not str(args.chunk_length).isdigit():
        raise ValueError(
            "distillation compares frames across a batch and needs batches of one fixed length: "
            f"set iterator_type to chunk (is {args.iterator_type}) and chunk_length to one number "
            f"of samples (is {args.chunk_length})"
        )
    return int(args.chunk_length)


def _tap(
    layers: dict[str, list] | None, model: ESPnetEnhancementModel, option: str
) -> FeatureTap | None:
    return FeatureTap(layers, model.separator, option) if layers else None


@torch.no_grad()
def feature_shapes(
    model: ESPnetEnhancementModel, samples: int, tap: FeatureTap | None
) -> tuple[FeatureShapes, int]:
    """Sizes of a network's features for a mixture of a given length.

    Args:
        model: The enhancement model.
        samples: Length of the mixture.
        tap: Where its features are, if its separator does not hand them out itself.

    Returns:
        (C, F) of each layer, by set, and the number of frames.

    Raises:
        ValueError: If the separator has no feature sets, or its layers differ in frame rate.
    """
    separator = model.separator
    # ESPnet's TF-GridNets call it n_imics
    microphones = getattr(separator, "microphones", getattr(separator, "n_imics", 1))
    shape = (1, samples) if microphones == 1 else (1, samples, microphones)
    was_training = model.training
    generator = torch.Generator().manual_seed(0)
    mixture = torch.randn(shape, generator=generator)
    _, inputs = with_features(
        model.eval().forward_enhance, separator, tap, mixture, torch.tensor([samples])
    )
    model.train(was_training)
    if not inputs.feature_sets:
        raise ValueError(
            f"{type(separator).__name__} offers no feature sets to distil from: name its layers "
            "with student_features or teacher_features, or take a scheme on the output alone"
        )
    frames = {
        f"{name}[{n}]": x.shape[2]
        for name, layers in inputs.feature_sets.items()
        for n, x in enumerate(layers)
    }
    if len(set(frames.values())) > 1:
        raise ValueError(
            f"layers of {type(separator).__name__} differ in frame rate: {frames}; leave some out, "
            "or drop what is too many at the beginning with skip_frames"
        )
    shapes = {
        name: [(x.shape[1], x.shape[3]) for x in layers]
        for name, layers in inputs.feature_sets.items()
    }
    return shapes, next(iter(frames.values()))
