"""What happens on one machine: render (pure), scripts, and the Commands that run them."""
