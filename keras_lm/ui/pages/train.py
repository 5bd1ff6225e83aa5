"""The Train page: choose, start, watch."""

from collections.abc import Callable

import streamlit as st

from keras_lm.data.task_corpus import NUM_HELD_OUT
from keras_lm.presentation.course import unit_of
from keras_lm.presentation.formatting import (
    NUMBERS_HEIGHT,
    ROW_HEIGHT,
    escape_markdown,
    label_runs,
    plural,
    show_seconds,
    text_title,
)
from keras_lm.settings import estimates
from keras_lm.settings.config import ConfigError, RunConfig
from keras_lm.ui.parts.draft import draft
from keras_lm.ui.parts.fields import explain
from keras_lm.ui.parts.run_form import MissingText, run_form
from keras_lm.ui.parts.run_settings import run_settings
from keras_lm.ui.parts.waiting import runs_before_a_new_one
from keras_lm.ui.services import (
    TextFacts,
    machine_speed,
    owner,
    shown_disk_errors,
    supervisor,
    text_facts,
)

RUN = "run"  # in the address and in the session: the run that is looked at
NEW_RUN = "new"
CARD_WIDTH = 155  # pixels: four in a row on a laptop, two on a telephone
MANY_READINGS, MANY_WITH_DECAY = 10.0, 20.0  # after which a small model learns a text by heart


def page() -> None:
    """Draws the form of a new run, or the run that the address names."""
    chosen = chosen_run()
    summary = None
    if chosen != NEW_RUN:
        try:
            summary = supervisor().summary(chosen)
        except ConfigError:
            pass
    choose_run(chosen)
    if summary is not None:
        # Charts take half a second to import, for which the first sight of the form need not wait.
        from keras_lm.ui.parts.dashboard import dashboard

        dashboard(summary)
    elif chosen == NEW_RUN:
        new_run()
    else:
        with st.sidebar:
            run_settings(None)
        st.error(
            escape_markdown(f"There is no run {chosen!r:.40} any more: choose another one above.")
        )


def chosen_run() -> str:
    """The run in the address; else the one this tab looked at; else one that is active, or none."""
    chosen = st.query_params.get(RUN) or st.session_state.get(RUN)
    if chosen is None:
        active = [summary for summary in supervisor().summaries() if summary.is_active]
        chosen = active[-1].run_id if active else NEW_RUN
    if chosen != NEW_RUN:
        st.query_params[RUN] = chosen  # so that it stays when it has ended
    st.session_state[RUN] = chosen
    return chosen


def show_run(run_id: str) -> None:
    """Puts a run into the address, so that a reload shows it again."""
    st.query_params[RUN] = run_id


def choose_run(chosen: str) -> None:
    """The list of runs, and the way back to a new one."""
    labels = label_runs(supervisor().summaries())
    if not labels and chosen == NEW_RUN:
        return
    st.session_state["chosen_run"] = chosen
    with st.container(horizontal=True, height=ROW_HEIGHT, border=False, key="runs"):
        st.selectbox(
            "Run",
            [NEW_RUN, *labels] if chosen in (NEW_RUN, *labels) else [chosen, NEW_RUN, *labels],
            format_func=lambda run_id: labels.get(
                run_id, "New run" if run_id == NEW_RUN else run_id
            ),
            key="chosen_run",
            label_visibility="collapsed",
            on_change=lambda: show_run(st.session_state["chosen_run"]),
        )
        if chosen != NEW_RUN:
            st.button("New run", icon=":material/add:", on_click=show_run, args=(NEW_RUN,))


def new_run() -> None:
    """What this is and what the settings will cost; the form is in the sidebar."""
    st.title("Train a small language model", anchor=False)
    st.markdown(
        "Choose a text and settings in the sidebar, or take what is set, and press **Start**. The "
        "model reads the text again and again and learns to guess its next character or word "
        "piece. You see the guesses improve, and try the model when it is done."
    )
    with st.sidebar:
        beside_length, make_config = run_form()
    setup(beside_length, make_config)


def setup(beside_length: Callable[[str], object], make_config: Callable[[], RunConfig]) -> None:
    """What the settings will cost, and the button that starts.

    Args:
        beside_length: writes a line beside the length in the form.
        make_config: gives the form's config, as `run_form` says.
    """
    config = facts = problem = None
    try:
        config = make_config()
        facts = text_facts(config.data, config.model.context_length)
        config = config.with_vocab_size(facts.vocab_size)
        estimates.check_memory(config)
        config.training.check_installed()
    except ValueError as error:
        problem = error
    with st.container(border=True):
        if config is not None and facts is not None and problem is None:
            beside_length(cost_card(config, facts))
            remarks(config, facts)
        elif isinstance(problem, MissingText):
            st.info(str(problem), icon=":material/upload_file:")
        elif problem is not None:
            st.error(escape_markdown(explain(problem)), icon=":material/error:")
        started = st.button(
            "Start",
            type="primary",
            icon=":material/play_arrow:",
            width="stretch",
            disabled=problem is not None,
            key="start",
        )
    if config is not None:
        attention_card(config.model.context_length)
    if config is not None and facts is not None:
        text_card(facts, config)
    if started and config is not None:
        with shown_disk_errors():
            st.query_params[RUN] = supervisor().start(config, owner=owner())
            st.rerun()


def cost_card(config: RunConfig, facts: TextFacts) -> str:
    """Draws parameters, memory and time; returns the time and the readings in a sentence."""
    speed = machine_speed()
    seconds = estimates.run_seconds(config, speed, facts.validation_tokens)
    steps = expected_steps(config, facts)
    about = "About " * bool(config.training.max_seconds)
    with st.container(horizontal=True, height=NUMBERS_HEIGHT, border=False, key="costs"):
        weights_card(config)
        st.metric(
            "Memory, about",
            f"{estimates.memory_bytes(config) / 2**30:.1f} GB",
            help="Peak of the training process, estimated.",
            width=CARD_WIDTH,
        )
        st.metric(
            "Time, about",
            show_seconds(seconds),
            help="Estimated from how fast this machine multiplies matrices, and from how long the "
            "steps of its last runs took; start included."
            + f" Other programs use {speed.others:.0%} of its cores now."
            * (speed.others > 0),
            width=CARD_WIDTH,
        )
        reads = reading_card(config, facts, f"{about}{steps:,} steps")
    if config.training.max_seconds:
        return f"{about}{steps:,} steps; {reads}"
    course = f"About {show_seconds(seconds)}; {reads}"
    if config.training.max_tokens:
        return f"Not used: the budget allows {steps:,} steps. {course}"
    return course


def weights_card(config: RunConfig) -> None:
    """How many weights are trained, and with LoRA of how many."""
    count, rank = config.model.parameter_count(), config.training.lora_rank
    if not rank:
        words = "Weights that training changes; exact."
        st.metric("Parameters", f"{count:,}", help=words, width=CARD_WIDTH)
        return
    made = supervisor().summary(draft().initial)
    known = made.config.model.vocab_size if made and made.config else config.model.vocab_size
    trained = config.trained_count(max(0, config.model.vocab_size - known))
    words = f"LoRA of rank {rank} trains these; the {count:,} of the model stay as they are."
    st.metric("Trained weights", f"{trained:,}", help=words, width=CARD_WIDTH)


def reading_card(config: RunConfig, facts: TextFacts, steps: str) -> str:
    """How often the text is read, or how many instances of a task are; returns it in words.

    Args:
        config, facts: the run and its text.
        steps: how many it makes, in words.
    """
    tokens = expected_steps(config, facts) * config.tokens_per_step
    if config.data.task:
        count = tokens // config.window_tokens
        words = f"{steps} draw so many. Those that measure the model are not among them."
        st.metric("Instances", f"{count:,}", help=words, width=CARD_WIDTH)
        return f"learns from {count:,} instances."
    times = show_times(readings_of(config, facts))
    words = (
        f"{steps} read {tokens:,} tokens in all; the text has {facts.train_tokens:,} to train on."
    )
    st.metric("Reads the text", times, help=words, width=CARD_WIDTH)
    return f"reads the text {times}."


def expected_steps(config: RunConfig, facts: TextFacts) -> int:
    """How many steps the run makes; with a budget of seconds, estimated."""
    return estimates.expected_steps(config, machine_speed(), facts.validation_tokens)


def readings_of(config: RunConfig, facts: TextFacts) -> float:
    """How often the whole text is read."""
    return expected_steps(config, facts) * config.tokens_per_step / facts.train_tokens


def many_readings(config: RunConfig) -> float:
    """After how many readings a text is mostly learned by heart.

    Example:
        >>> from keras_lm.settings.presets import ORIGINAL, QUICK_START
        >>> many_readings(ORIGINAL), many_readings(QUICK_START)  # the latter's weights decay more
        (10.0, 20.0)
    """
    return MANY_WITH_DECAY if config.training.decay_per_reading else MANY_READINGS


def show_times(readings: float) -> str:
    """0.4 times, 2.6 times, 250 times.

    Example:
        >>> show_times(0.42), show_times(250.4)
        ('0.4 times', '250 times')
    """
    return f"{readings:.1f} times" if readings < MANY_READINGS else f"{readings:,.0f} times"


def remarks(config: RunConfig, facts: TextFacts) -> None:
    """What to know before Start: the queue, a text that is read too often, useless settings."""
    original = st.session_state.get("duplicated")
    if original is not None and original == draft():
        is_timed = config.training.max_seconds > 0.0
        st.info(
            "These are the settings of the run that you duplicated. Unchanged, they give "
            + ("one like it: the time decides the steps." if is_timed else "the same model again."),
            icon=":material/content_copy:",
        )
    readings = readings_of(config, facts)
    if readings > (many := many_readings(config)) and not config.data.task:
        st.warning(
            f"The model will read this text {show_times(readings)}. After about "
            f"{many:.0f} it mostly learns the text by heart: a longer text or a shorter run "
            "helps.",
            icon=":material/menu_book:",
        )
    for warning in config.warnings():
        st.warning(escape_markdown(warning), icon=":material/info:")
    if ahead := runs_before_a_new_one():
        st.info(
            f"{plural(ahead, 'run')} {'is' if ahead == 1 else 'are'} ahead of this one, which "
            "starts by itself when its turn comes.",
            icon=":material/hourglass_empty:",
        )


def attention_card(context_length: int) -> None:
    """What the choice of attention means; drawn when it is opened."""
    card = st.expander(
        "Which attention? What each computes and costs",
        icon=":material/compare_arrows:",
        key="attention.card",
        on_change="rerun",
    )
    if card.open:
        from keras_lm.ui.parts.mechanisms import mechanisms

        with card:
            mechanisms(context_length)


def text_card(facts: TextFacts, config: RunConfig) -> None:
    """The text in numbers and its beginning."""
    st.header(escape_markdown(text_title(config.data)), anchor=False)
    sizes = (
        f"{facts.train_tokens:,} {unit_of(config)} to train on, {facts.validation_tokens:,} to "
        f"validate, {facts.vocab_size:,} different ones."
    )
    if config.data.task:
        sizes = f"New instances are drawn for each step, {NUM_HELD_OUT:,} others measure the model."
    st.caption(
        f"{sizes} A model that knows only how frequent each token is scores "
        f"{facts.unigram_entropy:.2f}; lower means that it uses the context."
    )
    st.code(facts.excerpt, language=None, wrap_lines=True)
