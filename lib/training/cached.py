"""Train, or publish the cached model if nothing that training depends on has changed; for the stage train."""

import logging

import torch
from joblib.externals import loky

from lib.core import resume
from lib.core.artifacts import MODEL
from lib.core.errors import SettingError
from lib.training import prepare
from lib.training.run import TrainingJob, publish_model, train_model
from lib.training.settings import Parameters


def train_if_changed(sections: Parameters) -> None:
    """Write all files of the stage train, with its sections of params.yaml."""
    settings_by_encoder, targets = sections.resolve()
    if sections.train.devices > (largest := torch.cuda.device_count() or loky.cpu_count()):
        raise SettingError(f"train.devices = {sections.train.devices}; allowed: up to {largest} on this machine")
    streams = prepare.load_streams(settings_by_encoder)
    clips = prepare.select_clips(sections, settings_by_encoder, targets)
    prepare.print_memory(settings_by_encoder, clips)
    groups = prepare.select_groups(sections.train, clips[0])
    before, sections = sections.model, prepare.complete(sections, clips[0], streams)
    derived = prepare.log_derived(before, sections.model)
    inputs = sections.model.settings_by_encoder()
    folder = resume.ROOT / "train" / prepare.fingerprint(sections, inputs, streams, *clips, groups=groups)
    if (folder / MODEL.name).exists():
        logging.getLogger("train").info("the cached model is valid: code, settings and data are unchanged")
    elif not train_model(TrainingJob(sections, targets, streams, *clips, derived=derived, groups=groups), folder):
        return  # one of several processes, and not the first
    publish_model(folder)
