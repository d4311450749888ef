"""From configuration to objects: ESPnet's enhancement task, with and without a teacher."""

from __future__ import annotations

import argparse

import torch
from espnet2.enh.espnet_model import ESPnetEnhancementModel
from espnet2.tasks.enh import EnhancementTask as ESPnetEnhancementTask
from espnet2.train.class_choices import ClassChoices
from espnet2.utils.types import str_or_none

from espnet2_tfckd.checkpoint import load_enhancement_model
from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, FeatureShapes
from espnet2_tfckd.distiller.i2srf_tfckd import I2SRFTFCKDDistiller
from espnet2_tfckd.model import ESPnetEnhancementKDModel
from espnet2_tfckd.trainer import KDTrainer, ResumableTrainer

distiller_choices = ClassChoices(
    name="distiller",
    classes=dict(i2srf_tfckd=I2SRFTFCKDDistiller),
    type_check=AbsDistiller,
    default="i2srf_tfckd",
)


class EnhancementTask(ESPnetEnhancementTask):
    """ESPnet's enhancement task with a trainer that survives being killed."""

    trainer = ResumableTrainer


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

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetEnhancementModel:
        """Build student, teacher and distiller.

        Raises:
            ValueError: No teacher is named, it does not fit its checkpoint, the batches are not of
                one fixed length, or a network has no feature sets to distil from.
        """
        if not (args.teacher_config and args.teacher_model_file):
            raise ValueError("distillation needs --teacher_config and --teacher_model_file")
        student = ESPnetEnhancementTask.build_model(args)
        # Its weights are not the seed's business: the student starts as it would without a teacher.
        with torch.random.fork_rng(devices=[]):
            teacher = load_enhancement_model(args.teacher_config, args.teacher_model_file)
            samples = fixed_chunk_length(args)
            student_shapes, frames = feature_shapes(student, samples, "student")
            teacher_shapes, teacher_frames = feature_shapes(teacher, samples, "teacher")
            if frames != teacher_frames:
                raise ValueError(
                    f"a chunk has {frames} frames in the student and {teacher_frames} in the "
                    "teacher: use the same encoder_conf.hop_length in both"
                )
            distiller = distiller_choices.get_class(args.distiller)(
                student_shapes, teacher_shapes, frames, args.batch_size, **args.distiller_conf
            )
        return ESPnetEnhancementKDModel(
            teacher=teacher,
            distiller=distiller,
            encoder=student.encoder,
            separator=student.separator,
            decoder=student.decoder,
            mask_module=student.mask_module,
            loss_wrappers=student.loss_wrappers,
            **args.model_conf,
        )


def fixed_chunk_length(args: argparse.Namespace) -> int:
    """Samples of every training chunk.

    Raises:
        ValueError: Training batches differ in length.
    """
    if args.iterator_type != "chunk" or not str(args.chunk_length).isdigit():
        raise ValueError(
            "distillation compares frames across a batch and needs batches of one fixed length: "
            f"set iterator_type to chunk (is {args.iterator_type}) and chunk_length to one number "
            f"of samples (is {args.chunk_length})"
        )
    return int(args.chunk_length)


@torch.no_grad()
def feature_shapes(
    model: ESPnetEnhancementModel, samples: int, role: str
) -> tuple[FeatureShapes, int]:
    """Sizes of a network's features for a mixture of a given length.

    Args:
        model: The enhancement model.
        samples: Length of the mixture.
        role: What to call the model in errors.

    Returns:
        (C, F) of each layer, by set, and the number of frames.

    Raises:
        ValueError: The separator has no feature sets.
    """
    microphones = getattr(model.separator, "microphones", 1)
    shape = (1, samples) if microphones == 1 else (1, samples, microphones)
    was_training = model.training
    others = model.eval().forward_enhance(
        torch.zeros(shape), torch.tensor([samples]), {"feature_sets": True}
    )[3]
    model.train(was_training)
    if "feature_sets" not in others:
        raise ValueError(
            f"the {role}'s separator ({type(model.separator).__name__}) offers no feature sets to "
            "distil from: use separator: dpdcrn"
        )
    sets = others["feature_sets"]
    frames = sets["encoder"][0].shape[2]
    shapes = {name: [(x.shape[1], x.shape[3]) for x in layers] for name, layers in sets.items()}
    return shapes, frames
