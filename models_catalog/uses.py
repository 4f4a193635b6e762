"""The closed list of fields of use that terms can rule out, each with its words. Pure."""

from __future__ import annotations

from enum import StrEnum


class Use(StrEnum):
    UNLAWFUL = "unlawful"
    MILITARY = "military"
    WEAPONS = "weapons"
    CRITICAL_INFRASTRUCTURE = "critical_infrastructure"
    SURVEILLANCE = "surveillance"
    BIOMETRIC_ID = "biometric_id"
    EMOTION_RECOGNITION = "emotion_recognition"
    SOCIAL_SCORING = "social_scoring"
    LAW_ENFORCEMENT = "law_enforcement"
    AUTOMATED_DECISIONS = "automated_decisions"
    DISCRIMINATION = "discrimination"
    EXPLOITING_VULNERABILITY = "exploiting_vulnerability"
    HARMING_MINORS = "harming_minors"
    HARASSMENT = "harassment"
    IMPERSONATION = "impersonation"
    DISINFORMATION = "disinformation"
    UNDISCLOSED_GENERATION = "undisclosed_generation"
    HARMFUL_PERSONAL_DATA = "harmful_personal_data"
    MEDICAL_ADVICE = "medical_advice"
    UNLICENSED_PRACTICE = "unlicensed_practice"
    ADULT_CONTENT = "adult_content"
    GAMBLING = "gambling"


# Each completes "You may not use it for ...".
WORDS: dict[str, str] = {
    Use.UNLAWFUL: "anything that breaks a law",
    Use.MILITARY: "military purposes or warfare",
    Use.WEAPONS: "making or using weapons",
    Use.CRITICAL_INFRASTRUCTURE: "running critical infrastructure",
    Use.SURVEILLANCE: "surveillance of people",
    Use.BIOMETRIC_ID: "recognizing people by face, voice or body",
    Use.EMOTION_RECOGNITION: "reading people's emotions",
    Use.SOCIAL_SCORING: "scoring people by their behavior or character",
    Use.LAW_ENFORCEMENT: "justice, law enforcement, immigration or asylum",
    Use.AUTOMATED_DECISIONS: "decisions on people's rights without a person",
    Use.DISCRIMINATION: "discrimination against people or groups",
    Use.EXPLOITING_VULNERABILITY: "exploiting people's vulnerabilities",
    Use.HARMING_MINORS: "harming or exploiting minors",
    Use.HARASSMENT: "harassing or defaming people",
    Use.IMPERSONATION: "passing for somebody without their consent",
    Use.DISINFORMATION: "spreading falsehoods to harm people",
    Use.UNDISCLOSED_GENERATION: "content that hides that a machine made it",
    Use.HARMFUL_PERSONAL_DATA: "spreading personal data that can harm somebody",
    Use.MEDICAL_ADVICE: "medical advice or reading medical results",
    Use.UNLICENSED_PRACTICE: "practicing a licensed profession without the license",
    Use.ADULT_CONTENT: "sexual content",
    Use.GAMBLING: "gambling",
}


def words(code: str) -> str:
    """Returns the code's words; text that is no code, of terms older than the list, stands for itself."""
    return WORDS.get(code, code)
