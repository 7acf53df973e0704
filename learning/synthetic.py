"""A synthetic, seeded, learnable set of sequences: it exercises the LSTM until there is a real speech task.

Nothing here was recorded: results on it say that a model learns, not how well it would do on speech.
"""

import numpy as np
import numpy.typing as npt

from learning.seeding import generator

NUM_SEQUENCE_CLASSES = 8
_STEPS = 8
_BINS = 1024
_NUM_SOUNDS = 4
_SEED = 20


def draw_sequences(num_examples: int, part: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Sequences uint8[num_examples, 8, 1024] and labels int64[num_examples], the same on every call.

    Each looks like a spectrogram of two "sounds", four steps each, out of a fixed bank of four: smooth spectra of
    1,024 bins. The class is which two and in which order, so that every class has a partner that differs in order
    alone. Loudness, pitch and noise vary from example to example; classes are equally frequent.

    Args:
        num_examples: how many to draw.
        part: "train" or "test"; each name is its own stream of examples of the same classes.
    """
    random = generator("sequences", _SEED, part)
    labels = random.permutation(np.arange(num_examples, dtype=np.int64) % NUM_SEQUENCE_CLASSES)
    sounds = _class_sounds()
    features = np.empty((num_examples, _STEPS, _BINS), np.uint8)
    for i, label in enumerate(labels):
        features[i] = _example(sounds[label], random)
    return features, labels


def _example(clean: npt.NDArray[np.float32], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    loudness = random.uniform(0.5, 1.0)
    shifted = np.roll(clean, int(random.integers(-8, 9)), axis=1)
    noisy = loudness * shifted + random.normal(0.1, 0.1, size=clean.shape)
    return (np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def _class_sounds() -> npt.NDArray[np.float32]:
    """The noiseless sequence of each class: float32[8, 8, 1024]."""
    bank = _sound_bank(generator("sequences", _SEED, "sounds"))
    pairs = [(0, 1), (1, 0), (2, 3), (3, 2), (0, 2), (2, 0), (1, 3), (3, 1)]
    half = _STEPS // 2
    return np.stack([np.concatenate([bank[[a]].repeat(half, 0), bank[[b]].repeat(half, 0)]) for a, b in pairs])


def _sound_bank(random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Spectra of a few broad peaks, each scaled to a highest value of 1: float32[4, 1024]."""
    bins = np.arange(_BINS)
    centres = random.uniform(0, _BINS, size=(_NUM_SOUNDS, 6, 1))
    widths = random.uniform(15, 40, size=(_NUM_SOUNDS, 6, 1))
    spectra = np.exp(-0.5 * ((bins - centres) / widths) ** 2).sum(axis=1)
    return np.asarray(spectra / spectra.max(axis=1, keepdims=True), np.float32)
