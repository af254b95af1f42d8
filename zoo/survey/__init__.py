"""Asking people which picture looks best: a page of blind pairs, a server for it, and what the answers say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.survey.answers import Answers, read_answers
    from zoo.survey.new_survey import NewSurvey, make_survey
    from zoo.survey.survey_key import SurveyKey, read_key
    from zoo.survey.survey_report import SurveyReport, make_report
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.survey.answers": ("Answers", "read_answers"),
            "zoo.survey.new_survey": ("NewSurvey", "make_survey"),
            "zoo.survey.survey_key": ("SurveyKey", "read_key"),
            "zoo.survey.survey_report": ("SurveyReport", "make_report"),
        },
    )

__all__ = [
    "Answers",
    "NewSurvey",
    "SurveyKey",
    "SurveyReport",
    "make_report",
    "make_survey",
    "read_answers",
    "read_key",
]
