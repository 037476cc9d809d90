"Pictures and pages; nothing below imports them, except a method that asks for a picture."
