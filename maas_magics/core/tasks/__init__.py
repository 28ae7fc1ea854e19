"""What is learnt: the fitted target, and all that is known of it: outputs, loss, metrics, answers, comparison."""
