"""The processes around the journey: listen, work, deliver, schedule, and what watches them."""
