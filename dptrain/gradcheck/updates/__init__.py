"""What an optimizer made of its gradient, against textbooks, and what explains another result."""
