"""POST /v1/boards: the sudoku in a text, in whatever spelling."""

from __future__ import annotations

from diffusiongemma.serve.native.bodies import BoardRequest
from diffusiongemma.serve.native.replies import BoardReply
from diffusiongemma.tasks.sudoku import format_puzzle
from diffusiongemma.tasks.sudoku_reader import about_puzzle, read_board, sudoku_of


def board_reply(body: BoardRequest) -> BoardReply:
    board = sudoku_of(body.text) if body.alone else read_board(body.text)
    if board is None:
        return BoardReply(board=None)
    return BoardReply(board=board, prompt=format_puzzle(board), verdict=about_puzzle(board))  # type: ignore[arg-type]
