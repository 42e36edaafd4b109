"""What a user can get wrong. Each message is one line that says what to do next; the command line exits with 2."""


class UserError(ValueError):
    """The user's mistake, told in one line."""


class ModelNotFound(UserError):
    """No model under that name, directory or hub id."""


class CheckpointError(UserError):
    """A checkpoint that is there but cannot be used: files missing, shapes or settings that do not fit."""


class InputError(UserError):
    """A prompt, image, video, schema or option that cannot be used as it is."""
