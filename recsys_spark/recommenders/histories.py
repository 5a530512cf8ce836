"""PLACEHOLDER: the original of this file (HistoryBlock, RawHistory, batch_of_raw) was overwritten by mistake."""

raise ImportError(
    "recommenders/histories.py was overwritten at 10:17 by the recommenders helper, by mistake, and could not be "
    "recovered (it was untracked): its author must write it again over this placeholder"
)
