"""What the command line says of a run that has ended."""

from keras_lm.presentation.course import describe_course
from keras_lm.presentation.diagnosis import diagnose
from keras_lm.settings.config import RunConfig
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.terminal import say


def say_course(folder: RunFolder, config: RunConfig) -> None:
    """Prints how the run went, and what was wrong with it, each on one line to stderr."""
    status, (events, _) = folder.read_status(), folder.read_events()
    findings = " ".join(finding.text for finding in diagnose(config, status, events))
    for line in (describe_course(config, status, events), findings):
        if line:
            say(line)
