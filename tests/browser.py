"""A headless browser for tests of pages."""

import contextlib
import importlib.util
import shutil
import unittest


def missing():
    """Return what is missing to drive Chromium, and how to install it; "" if nothing is."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed: pip install -r requirements-dev.txt"
    for program, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver")):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install {package}"
    return ""


@contextlib.contextmanager
def chromium(folder, *arguments):
    """Yield a driver of Chromium whose profile and downloads are in the folder.

    The arguments are more options of its command line.
    """
    if missing():
        raise unittest.SkipTest(missing())
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"),
        f"--user-data-dir={folder}/profile",
        *arguments,
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()
