"""The Train page: choose, start, watch."""

import streamlit as st

from keras_lm import estimates
from keras_lm.config import ConfigError, RunConfig
from keras_lm.ui import sidebar
from keras_lm.ui.services import (
    TextFacts,
    escape_markdown,
    label_runs,
    matrix_flops_per_second,
    show_seconds,
    supervisor,
    text_facts,
    told_disk_errors,
)

NEW_RUN = "new"


def page() -> None:
    """Draws the setup of a new run, or the run that the address names."""
    with st.sidebar:
        try:
            config, problem = sidebar.run_form(), None
        except ValueError as error:
            config, problem = None, error
    chosen = chosen_run()
    choose_run(chosen)
    summary = None
    if chosen != NEW_RUN:
        try:
            summary = supervisor().summary(chosen)
        except ConfigError:
            pass
        if summary is None:
            st.error(
                escape_markdown(
                    f"There is no run {chosen!r:.40} any more: choose another one above."
                )
            )
    if summary is not None:
        # Charts take half a second to import, for which the first sight of the page need not wait.
        from keras_lm.ui.dashboard import dashboard

        dashboard(summary)
    elif chosen == NEW_RUN:
        setup(config, problem)


def chosen_run() -> str:
    """The run in the address; else the one this tab looked at; else one that is active, or none."""
    chosen = st.query_params.get("run") or st.session_state.get("looked_at")
    if chosen is None:
        active = [summary for summary in supervisor().summaries() if summary.is_active]
        chosen = active[-1].run_id if active else NEW_RUN
    if chosen != NEW_RUN:
        st.query_params["run"] = chosen  # so that it stays when it has ended
    st.session_state["looked_at"] = chosen
    return chosen


def show_run(run_id: str) -> None:
    """Puts a run into the address, so that a reload shows it again."""
    st.query_params["run"] = run_id


def choose_run(chosen: str) -> None:
    """The list of runs, and the way back to a new one."""
    labels = label_runs(supervisor().summaries())
    if not labels:
        return
    st.session_state["chosen_run"] = chosen
    runs, new = st.container(), None
    if chosen != NEW_RUN:
        runs, new = st.columns([4, 1], vertical_alignment="bottom")
    runs.selectbox(
        "Run",
        [NEW_RUN, *labels] if chosen in (NEW_RUN, *labels) else [chosen, NEW_RUN, *labels],
        format_func=lambda run_id: labels.get(run_id, "New run" if run_id == NEW_RUN else run_id),
        key="chosen_run",
        on_change=lambda: show_run(st.session_state["chosen_run"]),
    )
    if new is not None:
        new.button(
            "New run",
            icon=":material/add:",
            width="stretch",
            on_click=show_run,
            args=(NEW_RUN,),
        )


def setup(config: RunConfig | None, problem: ValueError | None) -> None:
    """What this is, what the settings will cost, and the button that starts."""
    st.title("Train a small language model")
    st.markdown(
        "Choose a text and a recipe in the sidebar, or take them as they are, and press **Start**. "
        "The model reads the text again and again and learns to guess its next "
        "character or word piece; you see the guesses improve, and talk to it when it is done."
    )
    facts = None
    if config is not None:
        try:
            facts = text_facts(config.data, config.model.context_length)
            config = config.with_vocab_size(facts.vocab_size)
            estimates.check_memory(config)
        except ValueError as error:
            facts, problem = None, error
    with st.container(border=True):
        if facts is not None:
            cost_card(config, facts.validation_tokens)
        elif isinstance(problem, sidebar.MissingText):
            st.info(str(problem), icon=":material/upload_file:")
        else:
            st.error(escape_markdown(sidebar.in_words(str(problem))), icon=":material/error:")
        started = st.button(
            "Start",
            type="primary",
            icon=":material/play_arrow:",
            width="stretch",
            disabled=facts is None,
            key="start",
        )
    if facts is not None:
        text_card(facts)
    if config is not None:
        attention_card(config.model.context_length)
    if started:
        with told_disk_errors():
            st.query_params["run"] = supervisor().start(config)
            st.rerun()


def cost_card(config: RunConfig, validation_tokens: int) -> None:
    """Parameters exactly; memory and time as estimated for this machine."""
    seconds = estimates.run_seconds(config, matrix_flops_per_second(), validation_tokens)
    training = config.training
    tokens_per_step = (
        training.batch_size * training.gradient_accumulation * config.model.context_length
    )
    columns = st.columns(4)
    columns[0].metric(
        "Parameters",
        f"{config.model.parameter_count():,}",
        help="Weights that training changes; exact.",
    )
    columns[1].metric(
        "Memory, about",
        f"{estimates.memory_bytes(config) / 2**30:.1f} GB",
        help="Peak of the training process, estimated.",
    )
    columns[2].metric(
        "Time, about",
        show_seconds(seconds),
        help="Estimated from how fast this machine multiplies matrices; start included.",
    )
    columns[3].metric(
        "Tokens to read",
        f"{training.steps * tokens_per_step:,}",
        help=f"{training.steps:,} steps of {tokens_per_step:,} tokens.",
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
        from keras_lm.ui.mechanisms import mechanisms

        with card:
            mechanisms(context_length)


def text_card(facts: TextFacts) -> None:
    """The text in numbers and its beginning."""
    st.subheader("The text")
    st.caption(
        f"{facts.train_tokens:,} tokens to train on, {facts.validation_tokens:,} to validate, "
        f"{facts.vocab_size:,} different ones. Guessing by frequency alone would reach a loss of "
        f"{facts.unigram_entropy:.2f}; anything below is learned from what came before."
    )
    st.code(facts.excerpt, language=None, wrap_lines=True)
