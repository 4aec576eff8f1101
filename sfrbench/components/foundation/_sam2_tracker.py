"""One object through the slices of a volume, in a session of transformers' own, whose memory stays bounded.

Four things differ from ``propagate_in_video_iterator`` on a video in memory, none of them in the numbers:
slices come from files; the object has the session to itself; prompted slices are run before any other, since
a prompt that was not run counts for nothing, and its slice for an answer; and what no later slice reads is
dropped. Of 5.75 MiB a slice at 1024 pixels, 0.75 stay of a prompted one, 0.5 of each of the six last tracked
ones, and a pointer of 1 KiB of each of the fifteen last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from sfrbench.components.foundation._sam2_said import OnSlice

Denials = Literal["remembered", "alone"]


class Tracker:
    """``cache`` gives the features of a frame, ``frames`` is their number, ``shape`` (X, Y) of a slice, and
    ``positions`` (h * w, 1, C) are the encodings of a memory, alike for all."""

    def __init__(
        self, network: Any, cache: Any, frames: int, shape: tuple[int, int], positions: Tensor
    ) -> None:
        from transformers import Sam2VideoInferenceSession

        device = positions.device
        self._network = network
        self._shape = shape
        self._positions = positions
        self._session: Any = Sam2VideoInferenceSession(
            inference_device=device, inference_state_device=device, dtype=torch.float32
        )
        self._session.cache = cache
        self._session.processed_frames = range(frames)  # asked for their number alone
        self._session.obj_id_to_idx(1)

    @property
    def conditioning(self) -> dict[int, dict[str, Any]]:
        """What prompted frames gave."""
        held: dict[int, dict[str, Any]] = self._session.output_dict_per_obj[0]["cond_frame_outputs"]
        return held

    @property
    def tracked(self) -> dict[int, dict[str, Any]]:
        """What the frames gave that were propagated to."""
        held: dict[int, dict[str, Any]] = self._session.output_dict_per_obj[0]["non_cond_frame_outputs"]
        return held

    def run(self, prompts: Mapping[int, OnSlice], denials: Denials) -> None:
        """Run every prompted frame, so that all condition what follows.

        A frame with negative clicks alone says nothing of where the object is. With 'remembered' it is run
        after the others and with their memory, as a tracked frame is, and conditions from then on like them;
        with 'alone', and where no other frame is prompted, it is run like any.
        """
        later = [] if denials == "alone" else [frame for frame, on in prompts.items() if on.only_denies]
        if len(later) == len(prompts):
            later = []
        for frame in [*(frame for frame in prompts if frame not in later), *later]:
            self._add(frame, prompts[frame])
            self._session.obj_with_new_inputs = [1]
            if frame in later:  # a frame that counts as tracked is given the memory
                self._session.frames_tracked_per_obj[0][frame] = {"reverse": False}
            self._network(self._session, frame_idx=frame)
            if frame in later:
                self.conditioning[frame] = self.tracked.pop(frame)
            self._lighten(self.conditioning[frame])

    def _add(self, frame: int, on: OnSlice) -> None:
        """A prompt into the session: voxels (x, y) are row and column, the model wants columns first."""
        side = self._network.config.image_size
        if not on.places:
            self._session.add_mask_inputs(0, frame, torch.zeros(1, 1, side, side))
            return
        rows, columns = self._shape
        places = torch.tensor([[y * side / columns, x * side / rows] for x, y in on.places])
        labels = torch.tensor(on.labels, dtype=torch.int32)
        points = {"point_coords": places[None, None], "point_labels": labels[None, None]}
        self._session.add_point_inputs(0, frame, points)

    def propagate(self, start: int, *, reverse: bool) -> Iterator[tuple[int, Tensor]]:
        """Frames from ``start`` to the last, or to the first, and small logits (1, 1, h, w) of each.

        Each call begins with the prompts alone in memory, as after a reset and the same prompts again.
        """
        self.tracked.clear()
        self._session.frames_tracked_per_obj[0].clear()
        for out in self._network.propagate_in_video_iterator(self._session, start, reverse=reverse):
            yield out.frame_idx, out.pred_masks
            self._drop(out.frame_idx, reverse)

    def _drop(self, frame: int, reverse: bool) -> None:
        """Drop what no frame after this one reads: memories older than 6 frames, pointers older than 15."""
        settings = self._network.config
        for index in list(self.tracked):
            age = index - frame if reverse else frame - index
            if age >= settings.max_object_pointers_in_encoder - 1:
                del self.tracked[index]
                continue
            self._lighten(self.tracked[index])
            self.tracked[index].pop("pred_masks", None)
            if age >= settings.num_maskmem - 1:
                self.tracked[index].pop("maskmem_features", None)
                self.tracked[index].pop("maskmem_pos_enc", None)

    def _lighten(self, entry: dict[str, Any]) -> None:
        """Without the mask at full size, which only its own step reads, and with the shared encodings, which
        autocast would have counted in bf16."""
        entry.pop("high_res_masks", None)
        entry["maskmem_pos_enc"] = self._positions
