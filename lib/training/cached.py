"""Train, or publish the cached model if nothing that training depends on has changed; for the stage train."""

import logging

import torch
from joblib.externals import loky

from lib.core import resume
from lib.core.artifacts import MODEL
from lib.core.errors import SettingError
from lib.training import prepare
from lib.training.run import Task, publish_model, train_model
from lib.training.settings import Parameters


def train_if_changed(sections: Parameters) -> None:
    """Write all files of the stage train, with its sections of params.yaml."""
    encoder_inputs, targets = sections.resolve()
    if sections.train.devices > (largest := torch.cuda.device_count() or loky.cpu_count()):
        raise SettingError(f"train.devices = {sections.train.devices}; allowed: up to {largest} on this machine")
    streams = prepare.load_streams(encoder_inputs)
    clips = prepare.select_clips(sections, encoder_inputs, targets)
    prepare.print_memory(encoder_inputs, clips)
    groups = prepare.select_groups(sections.train, clips[0])
    before, sections = sections.model, prepare.complete(sections, clips[0], streams)
    derived = prepare.log_derived(before, sections.model)
    inputs = sections.model.encoder_inputs()
    folder = resume.ROOT / "train" / prepare.fingerprint(sections, inputs, streams, *clips, groups=groups)
    if (folder / MODEL.name).exists():
        logging.getLogger("train").info("the cached model is valid: code, settings and data are unchanged")
    elif not train_model(Task(sections, targets, streams, *clips, derived=derived, groups=groups), folder):
        return  # one of several processes, and not the first
    publish_model(folder)
