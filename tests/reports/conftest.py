"""Chromium without a window, driven through selenium; its console and its network are recorded."""

import json
import os
import shutil
from dataclasses import dataclass

import pytest

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--window-size=1280,900",
)


@dataclass(frozen=True)
class Browser:
    """A page under test: opens files, counts what goes wrong on the way."""

    driver: object

    def open(self, path, fragment=""):
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(path.as_uri() + fragment)

    def run(self, script, *args):
        return self.driver.execute_script(script, *args)

    def complaints(self):
        """What the console says, policy violations included."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self, stopped=True):
        """Addresses asked for since the page was opened, but no data URIs; `stopped`: also those the policy stopped."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        failed = {m["params"]["requestId"] for m in messages if m["params"].get("blockedReason") == "csp"}
        kept = [p["request"]["url"] for p in sent if stopped or p["requestId"] not in failed]
        return [url for url in kept if not url.startswith("data:")]

    def resize(self, width, height=900):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def scheme(self, name):
        features = [
            {"name": "prefers-color-scheme", "value": name},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def scripts(self, allowed):
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not allowed})


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    driver_path, chromium_path = shutil.which("chromedriver"), shutil.which("chromium")
    if driver_path is None or chromium_path is None:
        if os.environ.get("PELLUCID_REQUIRE_BROWSER") == "1":
            pytest.fail("PELLUCID_REQUIRE_BROWSER=1, but chromium or chromedriver is missing")
        pytest.skip("chromium or chromedriver is missing")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium_path
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver_path)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium):
    browser = Browser(chromium)
    browser.resize(1280)
    browser.scheme("light")
    yield browser
    browser.scripts(True)
