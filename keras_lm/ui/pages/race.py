"""The Race page: the same run but for one setting, with several seeds, and a verdict."""

import re
import time

import streamlit as st

from keras_lm.presentation.formatting import (
    TABLE_ROW,
    describe_run,
    escape_markdown,
    plural,
    show_seconds,
    show_stamp,
    text_title,
)
from keras_lm.presentation.race_charts import race_table
from keras_lm.presentation.runs_table import result_table
from keras_lm.runs.comparison import pair_in_words
from keras_lm.runs.race import RACES, RESUMABLE, Race, RaceRun, count_in_words, progress_in_words
from keras_lm.runs.race_config import RaceConfig, budget_of
from keras_lm.runs.slots import num_slots
from keras_lm.settings import estimates
from keras_lm.storage.run_folder import (
    ACTIVE_STATES,
    FINISHED,
    INTERRUPTED,
    PAUSED,
    TRAINING,
)
from keras_lm.ui.parts.compared import draw_compared
from keras_lm.ui.parts.fields import explain
from keras_lm.ui.parts.race_form import race_form
from keras_lm.ui.reach import announce
from keras_lm.ui.services import (
    machine_speed,
    shown_disk_errors,
    supervisor,
    text_facts,
)

RACE = "race"  # in the address and in the session: the race that is looked at
NEW = "new"
RACE_NAME = re.compile("[0-9A-Za-z_][0-9A-Za-z_.-]{0,99}")
REFRESH_SECONDS = 3.0
BY_ITSELF = (INTERRUPTED, PAUSED)  # how a run may have ended while the others go on


INTRODUCTION = (
    "Which choice is better? A race trains the same model several times, with one setting changed "
    "and the same seeds for each choice, and says what the result supports. Everything else is as "
    "it is set on the Train page."
)


def page() -> None:
    """Draws the form of a new race, or the race that the address names."""
    chosen = st.query_params.get(RACE) or st.session_state.get(RACE) or NEW
    st.session_state[RACE] = chosen
    st.title("Race", anchor=False)
    choose_race(chosen)
    if chosen == NEW:
        new_race()
        return
    race = race_of(chosen)
    if race is None or not race.exists:
        st.error(escape_markdown(f"There is no race {chosen!r:.40}: choose another one above."))
        return
    try:
        config = race.read()
        is_over = race.is_over
    except ValueError as error:
        st.error(escape_markdown(f"This race is damaged. {error}"))
        return
    with st.sidebar:
        race_settings(config)
    st.fragment(draw_race, run_every=None if is_over else REFRESH_SECONDS)(chosen, is_over)


def races() -> list[str]:
    """The names of all races, newest first."""
    found = (supervisor().root / RACES).glob("*/race.json")
    names = (path.parent.name for path in found)
    return sorted(filter(RACE_NAME.fullmatch, names), reverse=True)


def race_of(name: str) -> Race | None:
    """The race of that name; None for a name that is none of ours."""
    is_ours = RACE_NAME.fullmatch(name)
    return Race(supervisor().root / RACES / name, supervisor()) if is_ours else None


def show(name: str) -> None:
    """Puts a race into the address."""
    st.query_params[RACE] = name


def choose_race(chosen: str) -> None:
    """The list of races; nothing while there is none."""
    names = races()
    if not names:
        return
    st.session_state["chosen_race"] = chosen if chosen in (NEW, *names) else NEW
    st.selectbox(
        "Race",
        [NEW, *names],
        format_func=lambda name: "New race" if name == NEW else label(name),
        key="chosen_race",
        on_change=lambda: show(st.session_state["chosen_race"]),
    )


def label(name: str) -> str:
    """A race in a few words, and when it began."""
    try:
        words = describe(Race(supervisor().root / RACES / name, supervisor()).read())
    except ValueError:
        words = "damaged"
    return f"{show_stamp(name)} · {words}"


def describe(config: RaceConfig) -> str:
    """What varies, on what."""
    values = ", ".join(map(str, config.values))
    return f"{config.setting}: {values} · {text_title(config.base.data)}"


def new_race() -> None:
    """The form in the sidebar, what it will cost, and the button that starts."""
    st.write(INTRODUCTION)
    config = None
    with st.sidebar:
        st.header("New race", anchor=False)
        make_config = race_form()
    with st.container(border=True):
        try:
            config = make_config()
            st.markdown(costs(config))
        except ValueError as error:
            config = None
            st.error(escape_markdown(explain(error)), icon=":material/error:")
        clicked = st.button(
            "Start the race",
            type="primary",
            icon=":material/flag:",
            width="stretch",
            disabled=config is None,
            key="race.start",
        )
        if clicked and config is not None:
            start(config)


def costs(config: RaceConfig) -> str:
    """How many runs a race has and how long they take, as Markdown; ValueError as for a run."""
    speed = machine_speed()
    seconds, largest = 0.0, 0
    for value in config.values:
        run = config.config_of(value, config.seeds[0])
        facts = text_facts(run.data, run.model.context_length)
        run = run.with_vocab_size(facts.vocab_size)
        estimates.check_memory(run)
        each = estimates.run_seconds(run, speed, facts.validation_tokens)
        seconds += len(config.seeds) * each
        largest = max(largest, estimates.memory_bytes(run))
    count, slots = len(config.values) * len(config.seeds), num_slots(largest)
    together = "one after the other" if slots == 1 else f"{min(slots, count)} at a time"
    return (
        f"**{escape_markdown(describe(config))}**  \n{plural(count, 'run')}, {together}, "
        f"about {show_seconds(seconds / min(slots, count))} in all. Each begins as "
        f"{escape_markdown(describe_run(config.base))}."
    )


def start(config: RaceConfig) -> None:
    """Puts all runs of a race into the queue and shows it."""
    with shown_disk_errors():
        name = time.strftime("%Y%m%d-%H%M%S")
        while (folder := supervisor().root / RACES / name).exists():
            name += "-a"
        race = Race(folder, supervisor())
        race.create(config)
        race.go_on()
        show(name)
        st.rerun()


def race_settings(config: RaceConfig) -> None:
    """What is raced."""
    st.header("This race", anchor=False)
    seeds = ", ".join(map(str, config.seeds))
    budget = budget_of(config.base.training)
    st.markdown(
        f"**{escape_markdown(config.setting)}**: "
        f"{escape_markdown(', '.join(map(str, config.values)))}  \nSeeds: {seeds}  \n"
        f"{' · '.join(f'{name.title()}: {most:,.0f}' for name, most in budget.items())}"
    )
    st.caption(escape_markdown(describe_run(config.base)))


def draw_race(name: str, was_over: bool) -> None:
    """Progress, chart, table and sentence from the runs' folders."""
    race = race_of(name)
    try:
        if race is None or race.is_over != was_over:
            st.rerun()  # the whole page: the refreshing begins or ends
        config, runs = race.read(), race.runs()
    except ValueError:
        st.rerun()  # which says that it is gone or damaged
    active = [run for run in runs if run.state in ACTIVE_STATES]
    with st.container(key="race-progress"):
        st.progress(sum(map(share, runs)) / len(runs), escape_markdown(progress_in_words(runs)))
    announce(f"{count_in_words(runs)}.", key="reach-race")
    ended = BY_ITSELF if active else ("", *RESUMABLE)  # what was stopped may be just ending
    buttons(race, config, bool(active), any(run.state in ended for run in runs))
    has_finished = all(run.state == FINISHED for run in runs)  # the last may while this is drawn
    is_over = was_over or has_finished
    if is_over:
        with shown_disk_errors():
            race.write_result()
    result = race.result()
    st.subheader(escape_markdown(result["summary"]), anchor=False)
    begun = [(run, supervisor().folder(run.run_id)) for run in runs if run.summary]
    draw_compared(config.names, lambda measure: race_table(begun, measure), "race")
    height = TABLE_ROW * (len(result["entries"]) + 1) + 3
    with st.container(height=height, border=False):  # its room, before its code comes
        st.dataframe(result_table(result["entries"]), hide_index=True, height=height)
    if reasons := [run.reason for run in runs if run.reason]:
        st.warning("  \n".join(map(escape_markdown, reasons)), icon=":material/error:")
    pairs = [escape_markdown(pair_in_words(pair)) for pair in result["pairs"]]
    st.markdown("\n".join(f"- {pair}" for pair in pairs))


def share(run: RaceRun) -> float:
    """How much of a run is done, from 0 to 1."""
    if run.summary is None or run.state != TRAINING:
        return float(run.state == FINISHED)
    status = run.summary.status
    return min(1.0, status.get("step", 0) / max(1, status.get("steps", 1)))


def buttons(race: Race, config: RaceConfig, is_active: bool, can_go_on: bool) -> None:
    """Stop while it is active, later more seeds; resume what ended too early."""
    with st.container(horizontal=True):
        st.download_button(
            "Report",
            lambda: write_report(race),
            f"keras_lm-race-{race.path.name}.html",
            "text/html",
            icon=":material/description:",
            key="race.report",
            on_click="ignore",
            help="One HTML file with the chart, the table and the sentence.",
        )
        with shown_disk_errors():
            if is_active and st.button("Stop", icon=":material/stop:", key="race.stop"):
                race.stop()
            if can_go_on and st.button("Resume", icon=":material/resume:", key="race.go"):
                race.go_on()
                st.rerun()
            if not is_active and st.button("One more seed", icon=":material/add:", key="race.more"):
                race.create(config.with_seeds([max(config.seeds) + 1]))
                race.go_on()
                st.rerun()


def write_report(race: Race) -> str:
    """The race as one HTML file; drawing as SVG loads a library that the page need not wait for."""
    from keras_lm.presentation.report import race_report

    return race_report(race)
