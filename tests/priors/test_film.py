"""Frames of films: true times, each once, upright, in 8 bits, and what was lost is said."""

from __future__ import annotations

import numpy as np
import pytest
from films import bar_of, bars, damage, turn_header, write_film, write_sound

from dataparsers.video_frames import decode
from dyngs_plugins.priors import film_colour
from dyngs_plugins.priors.film import Damage, film_facts, packet_times, read_film
from dyngs_plugins.priors.footage import Choice, Film, evenly

UNEVEN = [0.0, 0.033, 0.1, 0.133, 0.3, 0.35, 0.4, 0.9]


def frames(path, choice=Choice()):  # noqa: B008  (frozen)
    film = Film(path)
    taken = [(t.seconds, bar_of(t.pixels(film.size))) for t in film.frames(choice)]
    return taken, film


def test_variable_rate_keeps_the_true_times(tmp_path):
    taken, film = frames(write_film(tmp_path / "a.mp4", bars(8), UNEVEN))
    assert [bar for _, bar in taken] == list(range(8))
    np.testing.assert_allclose([t for t, _ in taken], UNEVEN, atol=1e-4)
    assert film.notes == []
    np.testing.assert_allclose(packet_times(tmp_path / "a.mp4"), UNEVEN, atol=1e-4)


def test_times_count_from_the_films_start(tmp_path):
    """Films cut out of longer ones, and those with frames that refer to later ones, start late on their own clock."""
    taken, _ = frames(write_film(tmp_path / "a.mkv", bars(6), [5 + i / 10 for i in range(6)]))
    np.testing.assert_allclose([t for t, _ in taken], np.arange(6) / 10, atol=2e-3)


def test_a_range_a_rate_and_a_number(tmp_path):
    path = write_film(tmp_path / "a.mp4", bars(12))
    assert [bar for _, bar in frames(path, Choice(start=0.1, end=0.2))[0]] == [3, 4, 5]
    assert [bar for _, bar in frames(path, Choice(fps=10))[0]] == [0, 3, 6, 9]
    assert [bar for _, bar in frames(path, Choice(fps=300))[0]] == list(range(12)), "no frame is taken twice"
    assert [bar for _, bar in frames(path, Choice(max_frames=5))[0]] == [0, 3, 6, 9]
    assert [bar for _, bar in frames(path, Choice(fps=15, max_frames=3, start=0.1))[0]] == [3, 7, 11]
    assert Film(path).expected(Choice(fps=10)) == 4
    assert Film(path).expected(Choice(max_frames=5)) == 4


def test_a_late_start_is_found_from_a_key_frame_before(tmp_path):
    path = write_film(tmp_path / "a.mp4", bars(12), [i * 0.5 for i in range(12)], options={"crf": "8", "g": "4"})
    taken, _ = frames(path, Choice(start=4.0))
    assert [bar for _, bar in taken] == [8, 9, 10, 11]
    np.testing.assert_allclose([t for t, _ in taken], [4.0, 4.5, 5.0, 5.5], atol=1e-4)


def test_evenly_takes_the_nearest():
    times = [0.0, 0.04, 0.11, 0.19, 0.21, 0.5]
    assert list(evenly(times, 10.0, float)) == [0.0, 0.11, 0.19, 0.5]


def test_phones_films_are_turned_upright(tmp_path):
    path = write_film(tmp_path / "a.mp4", bars(6))
    turn_header(path)
    facts = film_facts(path)
    assert facts.size == (96, 32)
    for i, frame in enumerate(read_film(path, facts, Damage())):
        upright = np.rot90(bars(6)[i], -1)
        assert np.abs(frame.pixels(facts.size).astype(float) - upright).mean() < 8
        assert frame.pixels((48, 16)).shape == (48, 16, 3)
    assert "turned upright" in facts.notes[0]


def test_ten_bits_become_eight_and_it_is_said(tmp_path):
    path = write_film(
        tmp_path / "a.mp4",
        bars(6),
        codec="libx265",
        pixels="yuv420p10le",
        options={"x265-params": "crf=8:log-level=none"},
    )
    taken, film = frames(path)
    assert [bar for _, bar in taken] == list(range(6))
    assert film.notes == ["The film has 10 bits a channel; its frames are converted to 8 bits."]


@pytest.mark.parametrize(("transfer", "name"), [(film_colour.PQ, "PQ"), (film_colour.HLG, "HLG")])
def test_high_dynamic_range_is_converted_and_said(tmp_path, transfer, name):
    """Grey of a known light ends where it belongs in sRGB."""
    white = {film_colour.PQ: 0.581, film_colour.HLG: 0.75}[transfer]  # of BT.2408: 203 cd/m2
    grey = np.full((32, 96, 3), round(white * 255), np.uint8)
    options = {"x265-params": "crf=4:log-level=none"}
    path = write_film(
        tmp_path / "a.mp4", [grey] * 4, codec="libx265", pixels="yuv420p10le", options=options, transfer=transfer
    )
    film = Film(path)
    assert name in film.notes[0]
    pixels = next(iter(film.frames(Choice()))).pixels(film.size)
    peak = film_colour.compressed(np.array(1.0))
    assert pixels.mean() == pytest.approx(255 * (1.055 * peak ** (1 / 2.4) - 0.055), abs=6)


def test_highlights_are_compressed_smoothly():
    light = np.linspace(0, 20, 2001)
    out = film_colour.compressed(light)
    assert (np.diff(out) >= 0).all()
    assert out.max() <= 1.0
    np.testing.assert_allclose(out[light <= 0.7], light[light <= 0.7])
    assert np.abs(np.diff(out, 2)).max() < 1e-3, "no kink at the knee"
    black = np.zeros((2, 2, 3), np.uint16)
    assert (film_colour.to_srgb(black, film_colour.PQ) == 0).all()
    with pytest.raises(ValueError, match="transfer function 3"):
        film_colour.to_srgb(black, 3)


# Damage ---------------------------------------------------------------------------------------------------------------


def refused(path, match, error=ValueError):
    with pytest.raises(error, match=match) as raised:
        film_facts(path)
    return str(raised.value)


def test_what_is_no_film(tmp_path):
    (tmp_path / "a.mp4").write_text("not a film")
    refused(tmp_path / "a.mp4", "cannot be opened as a film .*10 bytes.*copy it again")
    (tmp_path / "b.mp4").write_bytes(b"")
    refused(tmp_path / "b.mp4", "the file is empty .0 bytes.")
    refused(tmp_path / "c.mp4", "no such film", FileNotFoundError)
    refused(write_sound(tmp_path / "d.mp4"), "holds no pictures, only audio.*sound only")


def test_a_title_may_be_in_any_encoding(tmp_path):
    film = write_film(tmp_path / "film.mp4", bars(4), title="cafe du monde")
    content = film.read_bytes()
    assert content.count(b"cafe") == 1
    film.write_bytes(content.replace(b"cafe", b"caf\xe9"))
    assert film_facts(film).count == 4
    assert len(packet_times(film)) == 4
    assert [bar_of(frame.pixels((32, 96))) for frame in read_film(film, film_facts(film), Damage())] == [0, 1, 2, 3]
    assert len(list(decode(film))) == 4


def test_a_damaged_middle_loses_only_itself(tmp_path):
    """Frames before the damage and from the next key frame on are there and sound."""
    path = write_film(tmp_path / "a.mp4", bars(12, noise=60), options={"crf": "16", "g": "4", "bf": "0"})
    damage(path, 0.5, 0.08)
    taken, film = frames(path)
    kept = [bar for _, bar in taken]
    assert kept == [round(t * 30) for t, _ in taken]
    assert kept[:4] == [0, 1, 2, 3]
    assert kept[-1] == 11
    assert len(kept) < 12
    assert any("nothing sound between" in note for note in film.notes)


def test_a_film_that_breaks_off(tmp_path):
    from dyngs_plugins.sample.writers.video import write_video

    write_video(tmp_path / "a.mp4", bars(12, noise=60), front=True)
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(content[: len(content) * 2 // 3])
    taken, film = frames(tmp_path / "b.mp4")
    assert 3 <= len(taken) < 12
    assert [bar for _, bar in taken] == list(range(len(taken)))
    assert film.notes, "what is missing is said"


def test_the_same_frames_at_every_run(tmp_path):
    path = write_film(tmp_path / "a.mp4", bars(12, noise=60), options={"crf": "16", "g": "4"})
    damage(path, 0.4, 0.08)
    film = Film(path)
    first = [t.pixels((16, 48)).tobytes() for t in film.frames(Choice())]
    assert first == [t.pixels((16, 48)).tobytes() for t in Film(path).frames(Choice())]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"fps": 0.0}, "--fps is 0.0"),
        ({"max_frames": -1}, "--max-frames is -1"),
        ({"start": -1.0}, "--start is -1.0"),
        ({"start": 3.0, "end": 2.0}, "--start 3 and --end 2 leave nothing"),
    ],
)
def test_choices_that_make_no_sense(values, match):
    with pytest.raises(ValueError, match=match):
        Choice(**values)
